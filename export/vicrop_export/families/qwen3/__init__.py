"""Qwen3-VL: a table of positions in the tower, and features of its layers added in the decoder's first."""
