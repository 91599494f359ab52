"""Labelled samples and tensors that several stages read."""
