"""The stage `prepare`: whatever a model comes as becomes one static ONNX file."""
