"""Latency and throughput of an engine, or of a running server, under load."""
