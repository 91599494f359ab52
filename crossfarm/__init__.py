"""crossfarm: compiles models for boards, runs them there, and reports whether they are right, how fast and how big."""

__version__ = "0.1.0"
