"""Files that a program wrote, taken over: hostile names, kinds and sizes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.transports.written import declared, take
from crossfarm.errors import BundleError

FILES = {"result.json": 10, "outputs/0.bin": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a program that wrote what it should."""
    made = tmp_path / "out"
    (made / "outputs").mkdir(parents=True)
    (made / "result.json").write_text("{}")
    (made / "outputs" / "0.bin").write_bytes(b"1234")
    (tmp_path / "taken").mkdir()
    return made


def test_what_is_declared_is_copied_and_nothing_else(folder: Path) -> None:
    (folder / "more").write_text("x")
    (folder / "outputs" / "1.bin").write_text("x")
    taken = folder.parent / "taken"
    take(folder, FILES, taken)
    found = {str(path.relative_to(taken)): path.read_bytes() for path in taken.rglob("*") if path.is_file()}
    assert found == {"result.json": b"{}", "outputs/0.bin": b"1234"}


def test_an_empty_file_counts_as_not_written(folder: Path) -> None:
    (folder / "result.json").write_bytes(b"")
    (folder / "outputs" / "0.bin").unlink()
    take(folder, FILES, folder.parent / "taken")
    assert list((folder.parent / "taken").iterdir()) == []


def _link(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("abc")
    (folder / "outputs/0.bin").unlink()
    (folder / "outputs/0.bin").symlink_to(secret)


def _linked_folder(folder: Path) -> None:
    (folder / "outputs").rename(folder.parent / "elsewhere")
    (folder / "outputs").symlink_to(folder.parent / "elsewhere")


def _pipe(folder: Path) -> None:
    (folder / "outputs/0.bin").unlink()
    os.mkfifo(folder / "outputs/0.bin")


def _directory(folder: Path) -> None:
    (folder / "outputs/0.bin").unlink()
    (folder / "outputs/0.bin").mkdir()


@pytest.mark.parametrize("spoil", [_link, _linked_folder, _pipe, _directory])
def test_only_plain_files_are_read(folder: Path, spoil: Any) -> None:
    spoil(folder)
    with pytest.raises(BundleError, match=r"outputs/0\.bin as something that is no plain file"):
        take(folder, FILES, folder.parent / "taken")
    assert not (folder.parent / "taken" / "outputs" / "0.bin").exists()


def test_a_file_larger_than_declared_is_refused(folder: Path) -> None:
    (folder / "outputs/0.bin").write_bytes(b"12345")
    with pytest.raises(BundleError, match=r"more than 4 bytes of outputs/0\.bin"):
        take(folder, FILES, folder.parent / "taken")


def _bundle(folder: Path, document: object) -> Path:
    (folder / "manifest.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def test_sizes_follow_from_the_manifest(tmp_path: Path) -> None:
    ports = [{"dtype": "float32", "shape": [2, 3]}, {"dtype": "bool", "shape": []}, {"dtype": "int64", "shape": [5]}]
    bundle = _bundle(tmp_path, {"cases": 4, "outputs": ports})
    files = declared(bundle, profile=False)
    assert [files[f"outputs/{number}.bin"] for number in range(3)] == [96, 4, 160]
    assert set(declared(bundle, profile=True)) - set(files) == {"profile.json"}


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "[" * 100_000,
        {"cases": 1},
        {"cases": "x", "outputs": []},
        {"cases": 1, "outputs": [1]},
        {"cases": 1, "outputs": [{"dtype": [], "shape": [1]}]},
        {"cases": 1, "outputs": [{"dtype": "int8", "shape": ["x"]}]},
        {"cases": -1, "outputs": [{"dtype": "int8", "shape": [1]}]},
        {"cases": 1 << 50, "outputs": [{"dtype": "int8", "shape": [1]}]},
        {"cases": 1, "outputs": [{"dtype": "int8", "shape": [1]}] * 2000},
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json (cannot be used|declares more)"):
        declared(_bundle(tmp_path, document), profile=False)
