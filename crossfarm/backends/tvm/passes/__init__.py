"""Rewrites of a graph before it is scheduled, and of functions after it: layout, constants, registers."""
