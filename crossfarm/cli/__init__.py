"""The face: what invoke shows to users. Only tasks.py imports from here."""
