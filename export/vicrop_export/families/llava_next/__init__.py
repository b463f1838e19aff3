"""LLaVA-NeXT: LLaVA-1.5's tower on a picture's base and tiles, and a newline embedding after each line."""
