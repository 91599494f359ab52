"""Feed hostile inputs to what reads them: `./inv fuzz`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from crossfarm.util.paths import HOME
from tests.fuzz import harness, kinds

KEPT = HOME / ".crossfarm" / "fuzz"


def main(arguments: Sequence[str]) -> int:
    """Run, print a line per kind and each failure; 0 when nothing failed, else 1."""
    parser = argparse.ArgumentParser(prog="./inv fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(kinds.NAMES)}; all by default")
    parser.add_argument("--count", type=int, help="so many inputs of each kind, in place of the usual number")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs")
    parser.add_argument("--only", type=int, help="the input of this number alone")
    given = parser.parse_args(arguments)
    for name in given.kinds:
        if name not in kinds.NAMES:
            parser.error(f"there is no kind {name!r}; kinds: {', '.join(kinds.NAMES)}")
    failed = False
    for name in given.kinds or kinds.NAMES:
        kind = kinds.load(name)
        count = kind.count if given.count is None else given.count
        numbers = range(count) if given.only is None else range(given.only, given.only + 1)
        totals = harness.run(kind, seed=given.seed, numbers=numbers, kept=KEPT)
        for result in totals.failures:
            last = result.text.strip().rpartition("\n")[2][:300]
            print(f"{name} {result.number}: {last}; kept in {KEPT}/{name}-{given.seed}-{result.number}")
        print(totals.line(), flush=True)
        failed = failed or bool(totals.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
