"""ONNX operators that are imported by our own code, where TVM's importer has none or computes something else."""
