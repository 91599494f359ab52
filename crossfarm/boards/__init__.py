"""Places that run bundles."""
