"""Where this clone stands."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
"""The folder of this clone: the package, runner/, toolchains/ and pipelines/ stand in it."""
