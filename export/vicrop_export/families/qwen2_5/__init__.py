"""Qwen2.5-VL, whose tower looks in windows, and Qwen2-VL; a Qwen2 decoder with positions of three axes."""
