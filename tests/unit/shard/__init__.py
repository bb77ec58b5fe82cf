"""Tests of what a shard decides: no socket, disk or sleep."""
