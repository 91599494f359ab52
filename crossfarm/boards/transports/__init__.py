"""Transports: this host, natively or under an emulator, and machines over ssh."""
