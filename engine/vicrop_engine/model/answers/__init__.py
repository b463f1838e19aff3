"""Tokens of answers: the greedy choice, what a form allows, two answers side by side."""
