"""Models for processors without an operating system: the backend tvm's compiler, and a library for a firmware."""
