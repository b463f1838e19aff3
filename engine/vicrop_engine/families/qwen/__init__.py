"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size in patches, positions by row and column."""
