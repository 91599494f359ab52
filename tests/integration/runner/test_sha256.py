"""The digests are those of the standard, whatever the sizes that the data comes in."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.integration.runner.building import HERE, MEMORY_SANITIZERS, RUNNER, build

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def sha256_driver(runner_folder: Path) -> Path:
    driver = runner_folder / "sha256"
    build(
        runner_folder, [HERE / "sha256_driver.c", RUNNER / "program/sha256.c"], [*MEMORY_SANITIZERS, "-o", str(driver)]
    )
    return driver


@pytest.mark.parametrize("piece", [1, 63, 64, 65, 100_000])
@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 200_001])
def test_digests_equal_those_of_hashlib(sha256_driver: Path, size: int, piece: int) -> None:
    content = bytes(index * 7 % 251 for index in range(size))
    done = subprocess.run([sha256_driver, str(piece)], input=content, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == hashlib.sha256(content).hexdigest()
