"""The classifier of building.py, made for each target once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME
from tests.integration.bundles.packages.building import Built, make, write_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the project in it."""
    folder = tmp_path_factory.mktemp("packaging")
    write_project(folder)
    own = HOME / ".crossfarm" / "store" / "zig"
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(own if own.is_dir() else tmp_path_factory.mktemp("zig")))
    return folder


@pytest.fixture(scope="session")
def built(project: Path) -> Callable[[str], Built]:
    """Return what builds the model for a target, once."""
    photographs = sorted((project / "photographs").iterdir())
    return functools.cache(lambda target: make(project, target, photographs))
