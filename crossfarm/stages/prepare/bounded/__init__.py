"""Operators whose result's extent depends on data: each gets its stated largest extent, and says how much of it counts."""
