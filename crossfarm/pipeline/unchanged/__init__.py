"""A run again where nothing changed: its outcome is known, and is written once more without planning anything."""
