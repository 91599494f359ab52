"""Conformance: the part of the ONNX backend suite that ONNX Runtime computes right and this does too.

One form of so many is tried, see `./inv conformance`. Good is a part of at least the goal, with nothing wrong, nothing
that dies, and no refusal that leaves open which operator and node it is about.
"""

from __future__ import annotations

import os

from benchmarks._measuring import SPREAD, Benchmark
from tests.conformance import page
from tests.conformance.attempt import CRASH, WRONG
from tests.conformance.run import Selection, run

GOAL = 97.0
EVERY, SMALL = 6, 150

BENCHMARK = Benchmark(
    name="conformance",
    what="ONNX's backend suite from prepare to the x86_64 program's answers, see [operators.md](operators.md)",
    how=f"every {EVERY}th form; of those that ONNX Runtime's CPU computes right, how many are right here",
    goal=f"at least {GOAL:g} %, nothing wrong, nothing that dies, each refusal names operator and node",
    minutes=2,
)


def main() -> None:
    """Try the forms and judge them."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--every", type=int, default=EVERY, help=f"one form of so many ({EVERY})")
    options = parser.parse_args()
    every = SMALL if options.small else options.every
    outcomes = run(Selection(every=every), jobs=len(os.sched_getaffinity(0)))
    sums = page.totals(outcomes)
    for one in outcomes:
        if one.status in (WRONG, CRASH):
            print(f"{one.status}: {one.id}: {one.reason}")
    print(sums.lines())
    seconds = sorted(one.seconds for one in outcomes if one.seconds)
    print(f"{SPREAD}{seconds[0]:.2f} to {seconds[-1]:.2f} s a form")
    right = 100 * sums.share
    wrong = sums.status.get(WRONG, 0) + sums.status.get(CRASH, 0)
    BENCHMARK.finish(right, "% right", good=right >= GOAL and not wrong and not sums.unnamed, small=options.small)


if __name__ == "__main__":
    main()
