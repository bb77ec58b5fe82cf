"""Wire between the processes of one cluster, version 1."""
