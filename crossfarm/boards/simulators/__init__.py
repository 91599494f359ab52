"""Transports that run a bundle in a simulator on this host; a backend names its own in its declaration."""
