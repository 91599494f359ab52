"""Copies an artifact out of the store, for people."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import ConfigError, StoreError
from crossfarm.store.store import Artifact, Store
from crossfarm.util.trees import remove_tree


def copy_artifacts(store: Store, artifacts: Sequence[Artifact], folder: Path) -> None:
    """Copy the files of artifacts into one new folder; no two of them may have a file of the same path.

    Args:
        store: that holds it.
        artifacts: whose files are copied.
        folder: must not exist yet.

    Raises:
        ConfigError: the folder exists.
        StoreError: a file cannot be read or written; then nothing is left of the folder.
    """
    if folder.exists():
        raise ConfigError(f"--to {folder}: exists already; name a folder that does not")
    try:
        folder.mkdir(parents=True)
        for artifact in artifacts:
            copy_files(store, artifact, folder)
    except OSError as error:
        remove_tree(folder)
        raise StoreError(f"--to {folder}: {error.strerror or error}; give a folder that can be written") from error


def copy_files(store: Store, artifact: Artifact, folder: Path) -> None:
    """Copy the files of an artifact into a folder that is there.

    Raises:
        OSError: a file cannot be read or written.
    """
    for file in artifact.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.object_path(file.object), path)
        path.chmod(0o755 if file.executable else 0o644)
