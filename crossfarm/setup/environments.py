"""Makes the Python environments of tools that cannot stand beside crossfarm's own."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

from crossfarm.errors import ToolError
from crossfarm.setup.install import install_hashed_into
from crossfarm.util.console import Console
from crossfarm.util.environments import COMPLETE, PLACES, ToolEnvironment
from crossfarm.util.processes import failure, output_of, run_tool

_ASKING_SECONDS = 60.0


def find_python(version: str) -> str | None:
    """Return the interpreter of a version of Python, such as `3.10`: on PATH, or one that pyenv keeps."""
    found = shutil.which(f"python{version}")
    if found is not None and is_version(found, version):
        return found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for candidate in sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True):
        if is_version(str(candidate), version):
            return str(candidate)
    return None


def is_version(python: str, version: str) -> bool:
    """Return whether an interpreter runs, and is of that version."""
    asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return (output_of(asked, wall_seconds=_ASKING_SECONDS) or "").strip() == version


def make_environment(environment: ToolEnvironment, *, console: Console) -> Path:
    """Make an environment from its lock, every file held against its hash; returns its folder.

    Raises:
        ToolError: its Python is not there, or pip or what completes it fails.
    """
    python = find_python(environment.python)
    if python is None:
        raise ToolError(
            f"setup: {environment.name} needs Python {environment.python}, which is neither on PATH nor among pyenv's; "
            f"install it, for instance with: pyenv install {environment.python}"
        )
    folder = PLACES[-1] / environment.folder_name
    folder.parent.mkdir(parents=True, exist_ok=True)
    console.line(f"setup: making the Python environment {environment.name} (some minutes the first time)")
    # A .venv knows where it stands, so it is made in its place, and counts when the last file is there.
    shutil.rmtree(folder, ignore_errors=True)
    made = run_tool([python, "-m", "venv", str(folder)], merged=True)
    if made.returncode:
        raise ToolError(f"setup: {failure(made)}")
    install_hashed_into(str(folder / "bin" / "python"), environment.lock, console=console)
    if environment.completed_by is not None:
        importlib.import_module(environment.completed_by).complete(folder, console=console)
    (folder / COMPLETE).touch()
    return folder
