"""start: how long `inv --list` takes, from the shell script on."""

from __future__ import annotations

import statistics

from benchmarks._measuring import SPREAD, Benchmark, seconds_of, spread
from crossfarm.util.paths import HOME

GOAL = 0.6

BENCHMARK = Benchmark(
    name="start",
    what="`./inv --list`, from the shell script on",
    how="median of 10, after one that is not counted",
    goal=f"under {GOAL} s",
    minutes=0.1,
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    samples = [seconds_of([str(HOME / "inv"), "--list"]) for _ in range(4 if small else 11)][1:]
    print(f"{SPREAD}{spread(samples)}")
    value = statistics.median(samples)
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)
