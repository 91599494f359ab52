"""Container images: what they are called, how they are built, and where the Debian below them comes from."""
