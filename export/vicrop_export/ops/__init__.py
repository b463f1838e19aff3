"""Operators: their definition in torch, and their translation to ONNX."""
