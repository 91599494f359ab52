"""States of files: whatever is changed, added, taken away or put in its place shows, and what is not does not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.pipeline.unchanged.watched import Watched, of_this_clone, settings, state
from crossfarm.util.paths import HOME


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    tree, folder = tmp_path / "tree", tmp_path / "folder"
    (tree / "below" / "deeper").mkdir(parents=True)
    (tree / "below" / "deeper" / "file.py").write_text("one")
    (tree / "top.py").write_text("one")
    folder.mkdir()
    (folder / "program").write_text("one")
    (tmp_path / "file").write_text("one")
    return Watched(trees=(str(tree),), folders=(str(folder),), files=(str(tmp_path / "file"), str(tmp_path / "absent")))


def _replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("one")
    new.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is written": lambda at: (at / "file").write_text("two"),
    "a file is replaced by one with the same content": lambda at: _replace(at / "file"),
    "a file's old time is set back": lambda at: os.utime(at / "file", ns=(1, 1)),
    "a file that was not there is": lambda at: (at / "absent").touch(),
    "a file goes": lambda at: (at / "file").unlink(),
    "a file becomes a link": lambda at: ((at / "file").unlink(), (at / "file").symlink_to(at / "tree" / "top.py")),
    "a file deep in a tree is written": lambda at: (at / "tree" / "below" / "deeper" / "file.py").write_text("two"),
    "a file is put deep into a tree": lambda at: (at / "tree" / "below" / "deeper" / "new.py").touch(),
    "a file deep in a tree goes": lambda at: (at / "tree" / "below" / "deeper" / "file.py").unlink(),
    "a file may be executed": lambda at: (at / "tree" / "top.py").chmod(0o755),
    "a program is put into a folder": lambda at: (at / "folder" / "other").touch(),
    "a program is replaced": lambda at: _replace(at / "folder" / "program"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_shows(watched: Watched, tmp_path: Path, change: str) -> None:
    before, _ = state(watched)
    CHANGES[change](tmp_path)
    assert state(watched)[0] != before


def test_a_file_of_the_same_size_with_its_old_time_still_shows(watched: Watched, tmp_path: Path) -> None:
    file = tmp_path / "file"
    was = file.stat()
    before, _ = state(watched)
    file.write_text("two")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert file.stat().st_mtime_ns == was.st_mtime_ns
    assert state(watched)[0] != before


def test_reading_and_bytecode_do_not_show(watched: Watched, tmp_path: Path) -> None:
    before, _ = state(watched)
    (tmp_path / "tree" / "__pycache__").mkdir()
    (tmp_path / "tree" / "__pycache__" / "top.cpython-311.pyc").write_text("bytecode")
    (tmp_path / "file").read_text()
    assert state(watched)[0] == before


def test_the_newest_change_is_told(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "tree" / "below" / "deeper" / "file.py").write_text("two")
    changed = (tmp_path / "tree" / "below" / "deeper" / "file.py").stat().st_ctime
    assert state(watched)[1] == pytest.approx(changed, abs=1e-3)


def test_a_link_to_a_folder_is_never_settled(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "tree" / "linked").symlink_to(tmp_path / "folder")
    assert state(watched)[1] == math.inf


def test_what_is_watched_survives_json(watched: Watched) -> None:
    assert Watched.from_json(watched.to_json()) == watched


def test_a_clone_watches_its_files_its_packages_and_the_path(tmp_path: Path) -> None:
    (tmp_path / ".crossfarm" / "environments" / "mera-1").mkdir(parents=True)
    watched = of_this_clone(tmp_path, {"PATH": "/a:/b"})
    assert {str(tmp_path / "crossfarm"), str(tmp_path / "toolchains")} <= set(watched.trees)
    assert {"/a", "/b", str(tmp_path / ".crossfarm" / "environments" / "mera-1")} <= set(watched.folders)
    assert any(folder.endswith("site-packages") for folder in watched.folders)
    assert str(tmp_path / "boards.yaml") in watched.files


def test_another_word_variable_or_folder_is_another_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def seen(*words: str, **variables: str) -> str:
        return settings(words, variables)

    same = seen("pipeline", PATH="/a")
    assert seen("pipeline", PATH="/a") == same
    assert seen("pipeline", PATH="/a", SHLVL="2", SSH_TTY="/dev/pts/1") == same
    others = {seen("pipeline", "--quiet", PATH="/a"), seen("pipeline", PATH="/b"), seen("pipeline", PATH="/a", CI="1")}
    monkeypatch.chdir(tmp_path)
    others.add(seen("pipeline", PATH="/a"))
    assert len(others | {same}) == 5


def test_a_variable_that_the_program_sets_itself_is_no_setting() -> None:
    code = """
import os
from crossfarm.pipeline.unchanged.watched import initial_environment
os.environ["SET_LATER"] = "1"
print(*sorted(initial_environment()))
"""
    # In a process of its own: the title that a test runner gives itself lies over the variables.
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "/a", "SET_BEFORE": "1"}, capture_output=True, check=True, cwd=HOME
    )
    assert done.stdout.split() == [b"PATH", b"SET_BEFORE"]
