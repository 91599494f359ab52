"""Artifacts by key, their files by content; what goes, and what live runs protect."""
