"""LLaVA-NeXT: a picture's base, and tiles of it whose embeddings are one grid without its padding."""
