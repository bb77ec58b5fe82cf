"""Tests of the routed client's rules and drivers: no socket, disk or sleep."""
