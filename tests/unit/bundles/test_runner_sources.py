"""The list of the runner's files."""

from __future__ import annotations

from pathlib import Path

from crossfarm.bundles.runner_sources import LIBRARY_SOURCES, PROGRAM_SOURCES, RUNNER_SOURCES

RUNNER = Path(__file__).parents[3] / "runner"


def test_every_file_of_the_runner_is_listed_once() -> None:
    found = {path.name for path in RUNNER.iterdir() if path.suffix in {".c", ".h", ".map"}}
    assert set(RUNNER_SOURCES) == found
    assert len(RUNNER_SOURCES) == len(found)


def test_the_library_does_without_the_program() -> None:
    assert not set(LIBRARY_SOURCES) & set(PROGRAM_SOURCES)
    assert "main.c" in PROGRAM_SOURCES
