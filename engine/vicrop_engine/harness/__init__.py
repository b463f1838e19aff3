"""A model for lmms-eval, found by its entry point: `lmms-eval --model vicrop`."""
