"""Folders that a job wrote: whatever is in them, at any depth, is measured and removed, and no link is followed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.errors import OutputError
from crossfarm.util.trees import TreeLimits, empty_folder, excess, remove_tree, walk

DEEP = 1100
"""More than Python recurses, more than one path may name (PATH_MAX), more folders than may be open at once."""


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    """Remove what pytest itself could not."""
    yield
    assert empty_folder(tmp_path)


def nest(top: Path, depth: int = DEEP) -> None:
    """Put folders into one another, each with a name of ten letters, and a file into the last."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 10, dir_fd=folder)
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)


def test_a_tree_deeper_than_a_path_may_be_is_removed(tmp_path: Path) -> None:
    (tmp_path / "top" / "beside").mkdir(parents=True)
    nest(tmp_path / "top")
    assert remove_tree(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_a_folder_is_emptied_and_stays(tmp_path: Path) -> None:
    nest(tmp_path)
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    assert empty_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_folders_beside_and_in_one_another_are_removed(tmp_path: Path) -> None:
    for first in range(30):
        for second in range(30):
            (tmp_path / "top" / f"{first}" / f"{second}").mkdir(parents=True)
            (tmp_path / "top" / f"{first}" / f"{second}" / "file").touch()
    assert remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_removed(tmp_path: Path) -> None:
    assert remove_tree(tmp_path / "no" / "such")
    assert empty_folder(tmp_path / "no")


def test_a_file_and_a_link_are_removed_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "top" / "inner" / "link").symlink_to(tmp_path / "kept")
    assert remove_tree(tmp_path / "link")
    assert remove_tree(tmp_path / "top")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "kept"


def test_closed_folders_are_opened_up(tmp_path: Path) -> None:
    closed = tmp_path / "top" / "closed" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    closed.parent.chmod(0o500)
    assert [found.path for found in walk(tmp_path / "top", TreeLimits())] == ["closed/closed/file"]
    closed.chmod(0)
    closed.parent.chmod(0)
    assert remove_tree(tmp_path / "top")


def test_a_folder_that_is_swapped_for_a_link_again_and_again_leads_nowhere_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    names = [f"{number}" for number in range(50)]
    for name in names:
        (kept / name).write_text("kept")
    enough = threading.Event()

    def swap() -> None:
        while not enough.is_set():
            for path in (tmp_path / "top" / "thing", tmp_path / "top" / "a" / "thing"):
                try:
                    path.mkdir(parents=True, exist_ok=True)
                    path.rmdir()
                    path.symlink_to(kept)
                    path.unlink()
                except OSError:
                    continue

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(300):
            remove_tree(tmp_path / "top")
            assert excess(tmp_path / "top", TreeLimits(entries=40)) is None
    finally:
        enough.set()
        swapper.join()
    assert sorted(path.name for path in kept.iterdir()) == sorted(names)


def test_a_walk_goes_through_all_files_in_order(tmp_path: Path) -> None:
    for name in ("b/x", "a/y/z", "a/x", "c", "a-b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = [found.path for found in walk(tmp_path, TreeLimits())]
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert found == [path.relative_to(tmp_path).as_posix() for path in paths]


def test_depth_is_limited(tmp_path: Path) -> None:
    nest(tmp_path)
    told = excess(tmp_path, TreeLimits())
    assert told is not None
    assert "folders more than 32 deep" in told
    (tmp_path / "exactly").mkdir()
    nest(tmp_path / "exactly", depth=31)
    assert excess(tmp_path / "exactly", TreeLimits(depth=31)) is None
    assert excess(tmp_path / "exactly", TreeLimits(depth=30)) is not None


def test_the_number_of_files_and_folders_is_limited(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "file").touch()
    assert excess(tmp_path, TreeLimits(entries=100)) is None
    told = excess(tmp_path, TreeLimits(entries=99))
    assert told is not None
    assert "more than 99 files and folders" in told


def test_size_is_limited_also_where_the_disk_holds_nothing(tmp_path: Path) -> None:
    for number in range(12):
        with (tmp_path / f"{number}").open("wb") as hollow:
            hollow.truncate(16 << 30)
    told = excess(tmp_path, TreeLimits())
    assert told is not None
    assert "by the sizes of its files" in told
    assert "may have 16" in told


def test_what_lies_on_the_disk_is_limited_and_names_of_one_file_count_once(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"x" * (1 << 20))
    for number in range(1, 3):
        os.link(tmp_path / "0", tmp_path / f"{number}")
    assert excess(tmp_path, TreeLimits(bytes=3 << 20)) is None
    descriptor = os.open(tmp_path / "hidden", os.O_CREAT | os.O_WRONLY)
    os.posix_fallocate(descriptor, 0, 4 << 20)
    os.ftruncate(descriptor, 1)
    os.close(descriptor)
    for number in range(1, 4):
        (tmp_path / f"more-{number}").write_bytes(b"")
    assert excess(tmp_path, TreeLimits(bytes=3 << 20)) is not None


def test_a_pipe_is_no_file_and_opening_it_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (found,) = walk(tmp_path, TreeLimits())
    with pytest.raises(OutputError, match="no plain file"):
        found.open()


@pytest.mark.parametrize("other", ["link", "pipe"])
def test_a_file_that_becomes_something_else_after_it_was_seen_is_not_opened(tmp_path: Path, other: str) -> None:
    path = tmp_path / "top" / "file"
    path.parent.mkdir()
    path.write_text("mine")
    (tmp_path / "secret").write_text("secret")
    for found in walk(tmp_path / "top", TreeLimits()):
        path.unlink()
        path.symlink_to(tmp_path / "secret") if other == "link" else os.mkfifo(path)
        with pytest.raises(OutputError, match="no plain file"):
            found.open()


def test_a_walk_leaves_no_descriptor_open(tmp_path: Path) -> None:
    nest(tmp_path, depth=40)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OutputError):
        list(walk(tmp_path, TreeLimits()))
    remove_tree(tmp_path / ("d" * 10))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
