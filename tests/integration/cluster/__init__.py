"""Tests of the drivers of ``tally.cluster`` against a real etcd."""
