"""TFLite to ONNX: the file, the graph, the order of axes, one converter for each operator."""
