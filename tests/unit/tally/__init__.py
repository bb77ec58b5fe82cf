"""Tests of what gateways and shards share: pure, no socket, disk or sleep."""
