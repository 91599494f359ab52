"""Operators whose result's extent depends on data: each gets its stated largest one, and says how much counts."""
