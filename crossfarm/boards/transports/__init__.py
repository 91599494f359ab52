"""The ways to a board: this host, natively or under an emulator, and machines over ssh."""
