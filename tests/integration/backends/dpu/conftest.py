"""Programs of the functional model that are built once for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.backends.dpu.building import SANITIZERS, build_program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and shutil.which("gcc") is None:
            item.add_marker(pytest.mark.skip(reason="gcc is not installed; apt-get install gcc"))


@pytest.fixture(scope="session")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the functional model with checks of every access to memory."""
    return build_program(tmp_path_factory.mktemp("dpu"), *SANITIZERS)
