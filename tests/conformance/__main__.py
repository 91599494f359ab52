"""Compile and run the ONNX backend suite, and tell operator by operator what is right: `./inv conformance`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import page
from tests.conformance.run import Selection, run


def main(arguments: Sequence[str]) -> int:
    """Run, print a line for each form and the totals; 0 when nothing is wrong, crashed, or less than it was."""
    parser = argparse.ArgumentParser(prog="./inv conformance", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="one form of so many")
    parser.add_argument("--only", action="append", default=[], help="a glob of forms: 'node/resize_*'")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="so many at a time")
    parser.add_argument("--baseline", action="store_true", help="only what was right when the page was written")
    parser.add_argument("--json", type=Path, help="write the outcomes there too")
    parser.add_argument("--write", action="store_true", help="write docs/operators.md and the list of what is right")
    given = parser.parse_args(arguments)
    was_right = frozenset(page.baseline())
    selection = Selection(every=given.every, only=given.only, ids=was_right if given.baseline else None)
    outcomes = run(selection, jobs=given.jobs, show=lambda line: print(line, flush=True))
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(one) for one in outcomes], indent=0))
    print(page.table(outcomes))
    sums = page.totals(outcomes)
    print(sums.lines())
    if given.write:
        if given.every != 1 or given.only or given.baseline:
            parser.error("--write needs the whole suite")
        page.write(outcomes, how="Written by `./inv conformance --write`.")
    lost = [one for one in outcomes if one.id in was_right and one.status != "right"]
    for one in lost:
        print(f"was right, is {one.status}: {one.id}: {one.reason}")
    return 1 if lost or sums.status.get("wrong") or sums.status.get("crash") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
