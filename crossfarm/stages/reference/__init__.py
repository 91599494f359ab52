"""The stage `reference`: the cases, and what ONNX Runtime answers."""
