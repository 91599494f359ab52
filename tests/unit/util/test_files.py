"""A report is there as a whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from crossfarm.errors import StoreError
from crossfarm.util.files import write_text


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.md"
    write_text(path, "one\n")
    write_text(path, "two é\n")
    assert path.read_bytes() == "two é\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["report.md"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Stands in for a full disk: the kernel refuses what goes beyond the limit.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreError, match=r"report\.md: cannot be written: File too large; free some space"):
            write_text(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.md"]


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        write_text(tmp_path / "out" / "report.md", "text")
