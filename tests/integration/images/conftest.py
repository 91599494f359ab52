"""What the tests of images share: a Debian that the engine has, and small projects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.images.ensure import BuildOptions, supply_base
from crossfarm.images.identity import BASE, dockerfile_path
from crossfarm.images.lock import LOCK, Pin
from crossfarm.util import docker
from crossfarm.util.paths import HOME
from tests.integration.images.project import HEAD, Project


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Pin:
    """The Debian below the images: pulled, or made here, or there already."""
    if not docker.answers():
        pytest.skip("no container engine answers; ./inv setup as root installs one")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed, and no registry may answer; ./inv setup as root installs it")
    folder = tmp_path_factory.mktemp("debian")
    (folder / "dockerfiles").mkdir()
    (folder / dockerfile_path(BASE)).write_text(HEAD)
    shutil.copy(HOME / LOCK, folder)
    return supply_base(folder, terms=BuildOptions(may_bootstrap=True), say=print)


@pytest.fixture
def project(tmp_path: Path, debian: Pin) -> Iterator[Project]:
    """A project of its own, whose images go when the test ends."""
    made = Project(tmp_path, debian)
    yield made
    made.remove_images()
