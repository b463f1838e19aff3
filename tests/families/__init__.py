"""The model families: pixels, prompts and geometry against transformers."""
