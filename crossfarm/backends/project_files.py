"""Toolchain files and whole projects, their `code:` sections judged by the backends that they name."""

from __future__ import annotations

from pathlib import Path

from crossfarm.backends import code_section
from crossfarm.config import loading
from crossfarm.config.project import Project
from crossfarm.config.targets import Target


def load_targets(folder: Path) -> dict[str, Target]:
    """Return the toolchain files of a folder; see config.loading.load_targets."""
    return loading.load_targets(folder, sections=code_section)


def load_project(*, models: Path, toolchains: Path, pipeline: Path) -> Project:
    """Load all files of a project; see config.loading.load_project."""
    return loading.load_project(models=models, toolchains=toolchains, pipeline=pipeline, sections=code_section)
