"""The C compiler of a target, its C library, and the runner that every bundle of the target is linked with."""
