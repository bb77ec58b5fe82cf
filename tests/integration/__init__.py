"""Tests against real processes, sockets and disks."""
