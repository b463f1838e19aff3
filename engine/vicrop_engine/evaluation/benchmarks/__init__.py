"""The benchmarks: where each is, how its rows are read, how it is asked, and what scores it."""
