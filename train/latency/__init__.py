"""Latency of exported files and runs: each in a process of its own, timed in turns."""
