"""Scorers: an answer and what was wanted in, a score out; three harnesses, each with its own ways."""
