"""LLaVA-1.5: one square input for a picture, whose tokens follow each other."""
