"""A tar.gz holds the files of a folder and nothing of where they came from."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from crossfarm.bundles.packages.archive import write_archive


def _folder(path: Path) -> Path:
    (path / "inputs").mkdir(parents=True)
    (path / "program").write_bytes(b"run")
    (path / "program").chmod(0o700)
    (path / "inputs" / "0.bin").write_bytes(b"0")
    return path


def test_it_unpacks_into_one_folder_with_the_rights_that_matter(tmp_path: Path) -> None:
    write_archive(tmp_path / "made.tar.gz", _folder(tmp_path / "bundle"), name="cell")
    with tarfile.open(tmp_path / "made.tar.gz") as archive:
        members = {member.name: (member.mode, member.uid, member.uname) for member in archive}
    assert members == {"cell/inputs/0.bin": (0o644, 0, ""), "cell/program": (0o755, 0, "")}


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = _folder(tmp_path / name)
        os.utime(folder / "program", (ord(name), ord(name)))
        write_archive(tmp_path / f"{name}.tar.gz", folder, name="cell")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
