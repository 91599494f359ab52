"""MERA, EdgeCortix's compiler: its own Python environment, and calls of it."""
