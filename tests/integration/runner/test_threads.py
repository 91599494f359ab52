"""Handles in several threads, each with threads of its own: right answers, and nothing that a sanitizer objects to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.runner.building import (
    HERE,
    MEMORY_SANITIZERS,
    THREAD_SANITIZER,
    build,
    library_sources,
    run,
    weights_file,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session", params=["threads", "memory"])
def handles_driver(request: pytest.FixtureRequest, runner_folder: Path) -> Path:
    flags = {"threads": THREAD_SANITIZER, "memory": MEMORY_SANITIZERS}[request.param]
    driver = runner_folder / f"handles-{request.param}"
    sources = [HERE / "handles_driver.c", HERE / "sample_model.c", *library_sources()]
    build(runner_folder, sources, [*flags, "-o", str(driver), "-pthread", "-lm"])
    (runner_folder / "weights.bin").write_bytes(weights_file())
    return driver


@pytest.mark.parametrize(
    ("handles", "threads", "runs"), [(1, 1, 50), (1, 2, 500), (1, 4, 200), (4, 1, 200), (3, 3, 200)]
)
def test_every_handle_answers_rightly(handles_driver: Path, handles: int, threads: int, runs: int) -> None:
    weights = handles_driver.parent / "weights.bin"
    done = run([handles_driver, weights, str(handles), str(threads), str(runs)])
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == handles * runs


def test_weights_are_read_where_they_cannot_be_mapped(tmp_path: Path) -> None:
    sources = [HERE / name for name in ("handles_driver.c", "sample_model.c", "failing_mmap.c")]
    flags = [*MEMORY_SANITIZERS, "-Dmmap=failing_mmap", "-o", "driver", "-pthread", "-lm"]
    build(tmp_path, [*sources, *library_sources()], flags)
    (tmp_path / "weights.bin").write_bytes(weights_file())
    done = run([tmp_path / "driver", "weights.bin", "1", "1", "10"], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10\n", "")
