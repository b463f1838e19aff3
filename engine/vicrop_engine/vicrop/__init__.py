"""The method: prefill, look, crop, answer."""
