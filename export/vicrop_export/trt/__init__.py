"""TensorRT plans: compiled, and for which lengths."""
