"""The heatmap operator: attention rows in, heatmap and best crop window out.

`definition` says what it computes in plain float64 loops; `numpy_heatmap` and `numpy_window` compute it fast.
"""
