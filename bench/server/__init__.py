"""Benchmarks of servers: `python -m bench.server`; see bench/README.md."""
