"""Cleaning: what `clean` does to the store, and says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from crossfarm.collecting import Limits, collect_garbage, remove_store
from crossfarm.collecting import verify as verify_store
from crossfarm.errors import EXIT_GOOD
from crossfarm.store import Store
from crossfarm.text import write


def clean_store(
    folder: Path, *, days: float | None, mebibytes: float | None, verify: bool, everything: bool, out: Path
) -> int:
    """Free space, and say how much; returns the exit code.

    Args:
        folder: the store.
        days: artifacts that were not used for so long go.
        mebibytes: the least recently used artifacts go until the store is at most so large.
        verify: drop artifacts with damaged objects first.
        everything: remove the whole store with the compiler's cache in it, and `out`.
        out: folder of the reports.

    Raises:
        StoreError: the store cannot be written, or a run is going on in it and everything is to go.
    """
    if not (folder / "objects").is_dir():
        write(sys.stdout, f"clean: there is no store at {folder}\n")
        return EXIT_GOOD
    store = Store(folder)
    if everything:
        remove_store(store)
        shutil.rmtree(out, ignore_errors=True)
        write(sys.stdout, f"clean: removed {folder} and {out}\n")
        return EXIT_GOOD
    dropped = verify_store(store) if verify else []
    for what in dropped:
        write(sys.stdout, f"clean: dropped {what}; the next run makes it again\n")
    limits = Limits(
        age_seconds=None if days is None else days * 86400,
        size_bytes=None if mebibytes is None else int(mebibytes * 2**20),
    )
    freed = collect_garbage(store, limits)
    write(sys.stdout, f"clean: freed {freed / 2**20:.1f} MiB in {folder}\n")
    return EXIT_GOOD
