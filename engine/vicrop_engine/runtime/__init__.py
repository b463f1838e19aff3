"""What runs graphs: ONNX Runtime on the host or a device, TensorRT plans."""
