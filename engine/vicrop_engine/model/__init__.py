"""The open model: prompts, vision tower, decoder, KV and prefix caches."""
