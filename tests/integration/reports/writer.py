"""Adds runs to a history until it is ended, as a farm does; names each on standard output when it is committed."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.place import read_place
from tests.unit.reports.kept_runs import latencies, records


def main() -> None:
    """Take the place, a name for the runs, and how many; 0 goes on without end."""
    place, name, count = read_place(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    cells = [f"aarch64-m{number}-float32" for number in range(20)]
    number = 0
    while not count or number < count:
        run = f"{name}-{number}"
        found = records(run, *cells, samples=latencies(number))
        told = keep_run(found, place, results=Path("results.jsonl"), busy_seconds=60)
        print(told or run, flush=True)  # noqa: T201
        number += 1


if __name__ == "__main__":
    main()
