"""The heatmap operator: attention rows in, heatmap and crop window out, for a batch in one call.

`arguments` says what it is told beside the rows, `definition.locate` what it computes in plain float64 loops;
`numpy_operator.locate` and `triton_operator.locate` compute it fast, on a processor and on a GPU.
"""
