"""The list of the runner's files."""

from __future__ import annotations

from pathlib import Path, PurePath

from crossfarm.backends.mcu import library
from crossfarm.bundles.linking.runner_sources import LIBRARY_SOURCES, PROGRAM_SOURCES, RUNNER_SOURCES, copy_sources
from crossfarm.util.paths import HOME

RUNNER = HOME / "runner"


def test_every_file_of_the_runner_is_listed_once() -> None:
    paths = [path for folder in ("library", "program", "server") for path in (RUNNER / folder).iterdir()]
    found = {path.relative_to(RUNNER).as_posix() for path in paths if path.suffix in {".c", ".h", ".map"}}
    assert set(RUNNER_SOURCES) == found
    assert len(RUNNER_SOURCES) == len(found)


def test_the_library_does_without_the_program() -> None:
    assert not set(LIBRARY_SOURCES) & set(PROGRAM_SOURCES)
    assert "main.c" in PROGRAM_SOURCES


def test_all_sources_find_room_in_one_folder(tmp_path: Path) -> None:
    copy_sources(RUNNER, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {PurePath(name).name for name in RUNNER_SOURCES}
    assert len(list(tmp_path.iterdir())) == len(RUNNER_SOURCES)


def test_every_file_for_processors_without_an_operating_system_is_listed_once() -> None:
    paths = [path for folder in ("library", "image") for path in (RUNNER / "mcu" / folder).iterdir()]
    found = {path.relative_to(RUNNER).as_posix() for path in paths}
    own = [name for name in library.SOURCES if name.startswith("mcu/")]
    assert set(own) == found
    assert len({PurePath(name).name for name in library.SOURCES}) == len(library.SOURCES)
