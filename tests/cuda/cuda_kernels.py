"""Kernels of ONNX Runtime's CUDA provider, as far as graphs use them, with the types they take.

From docs/OperatorKernels.md of ONNX Runtime (commit 001d12d2), section CUDAExecutionProvider: the row for
opset 18, or version 1 for its own operators. Only types that matter here are named.
"""

from __future__ import annotations

FLOATS = {"float16", "float"}
ALL = {"float16", "float", "int32", "int64"}
STANDARD = {
    "Add": ALL,
    "Cast": ALL,
    "Concat": ALL,
    "ConstantOfShape": ALL,
    "Cos": FLOATS,
    "Div": ALL,
    "Erf": FLOATS,
    "Expand": ALL,
    "Gather": ALL,
    "LayerNormalization": FLOATS,
    "MatMul": FLOATS,
    "Mul": ALL,
    "Reshape": ALL,
    "Shape": ALL,
    "Sigmoid": FLOATS,
    "SimplifiedLayerNormalization": FLOATS,
    "Sin": FLOATS,
    "Slice": ALL,
    "Softmax": FLOATS,
    "Split": ALL,
    "Squeeze": ALL,
    "Sub": ALL,
    "Transpose": ALL,
    "Unsqueeze": ALL,
}
OWN = {
    "FusedMatMul": FLOATS,
    "GroupQueryAttention": {"float16"},
    "MatMulNBits": FLOATS,
    "MultiHeadAttention": FLOATS,
    "RotaryEmbedding": FLOATS,
}
# Arithmetic on shapes, which ONNX Runtime runs on the processor on purpose, for there memory is laid out.
ON_SHAPES = {"Shape", "Sub", "Cast", "Concat", "Reshape", "Squeeze"}
