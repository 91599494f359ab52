"""Temporary folders: one whose owner lives is left alone, one whose owner was killed goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from crossfarm.util.scratch import abandoned_folders, remove_abandoned, scratch_folder

OWNER = """
import sys, time
from crossfarm.util.scratch import scratch_folder
with scratch_folder("link") as folder:
    (folder / "file").write_text("12345")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_folder_of_a_killed_process_is_abandoned_and_goes(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            folder = Path(owner.stdout.readline().strip())
            os.utime(folder, (0, 0))
            assert abandoned_folders() == []
            assert not remove_abandoned(folder)
        finally:
            owner.kill()
    assert abandoned_folders() == [folder]
    assert remove_abandoned(folder)
    assert not folder.exists()


def test_a_young_folder_and_one_of_somebody_else_s_program_are_left_alone(temporary: Path) -> None:
    (temporary / "crossfarm-link-young").mkdir()
    for name in ("crossfarm-mine-1", "link-1"):
        (temporary / name).mkdir()
        os.utime(temporary / name, (0, 0))
    (temporary / "elsewhere").mkdir()
    (temporary / "crossfarm-link-link").symlink_to(temporary / "elsewhere")
    os.utime(temporary / "elsewhere", (0, 0))
    assert abandoned_folders() == []


def test_a_folder_goes_with_its_block(temporary: Path) -> None:
    with scratch_folder("tune") as folder:
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []
