"""The stage `c_library`: the C library of a target, built once."""
