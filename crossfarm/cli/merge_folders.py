"""What `./inv merge` does: reads what machines left, as far as it can be read, and writes one run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import EXIT_INFRASTRUCTURE, ConfigError, StoreError
from crossfarm.pipeline.options import Options
from crossfarm.reports import RESULTS, terminal
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.read_results import read_results
from crossfarm.reports.merging import Part, merge
from crossfarm.reports.writing import write_reports
from crossfarm.results import EndRecord, to_json
from crossfarm.util.files import write_text
from crossfarm.util.text import count, one_line, write


def merge_folders(folders: Sequence[str], options: Options) -> int:
    """Merge the results in folders into a run in `options.out`, with reports and history; returns its exit code.

    Args:
        folders: with a results.jsonl each, or such files themselves.
        options: `out` and where the history is.

    Raises:
        ConfigError: none is given, or the run would be written over one of them.
        StoreError: none of them holds a run, or the reports cannot be written.
    """
    if not folders:
        raise ConfigError("name the folders whose results are merged: ./inv merge parts/x86_64 parts/aarch64")
    target = options.out / RESULTS
    parts: list[Part] = []
    missing: dict[str, str] = {}
    told: list[str] = []
    for folder in dict.fromkeys(folders):
        path = Path(folder) / RESULTS if not folder.endswith(".jsonl") else Path(folder)
        if target.exists() and path.exists() and path.samefile(target):
            raise ConfigError(f"--out {options.out}: holds results that are merged; give another folder")
        try:
            found = read_results(path)
        except StoreError as error:
            missing[folder] = f"left no results: {error}"
            continue
        told += found.told
        if len(found.runs) > 1:
            told.append(f"{path}: holds {count(len(found.runs), 'run')}; the last one counts")
        parts.append(Part(name=folder, records=found.runs[-1]))
    if not parts:
        raise StoreError("\n".join([f"{name}: {why}" for name, why in missing.items()] + ["nothing to merge"]))
    merged = merge(parts, missing, command=shlex.join(["./inv", "merge", *folders]))
    for line in (*told, *merged.told):
        write(sys.stderr, f"merge: {one_line(line)}\n")
    try:
        write_text(target, "".join(f"{to_json(record)}\n" for record in merged.records))
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}; give another --out") from error
    place = options.history_place
    untold = keep_run(merged.records, place, results=target) if place else ""
    write(sys.stdout, terminal.render(write_reports(merged.records, options.out)))
    if untold:
        write(sys.stderr, f"{untold}\n")
    ends = [record.exit_code for record in merged.records if isinstance(record, EndRecord)]
    return ends[-1] if ends else EXIT_INFRASTRUCTURE
