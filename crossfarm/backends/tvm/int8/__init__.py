"""Integer kernels: quantised operators of a graph, in exact integer arithmetic."""
