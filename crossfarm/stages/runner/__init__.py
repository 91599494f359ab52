"""The stage `runner`: what runs a model on a board, compiled once for a target."""
