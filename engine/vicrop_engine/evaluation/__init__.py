"""Benchmarks put to an engine: questions, answers kept in a file, scorers, and a report."""
