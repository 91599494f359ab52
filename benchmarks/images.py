"""images: `./inv images` for all targets when the engine has every image, from the shell script on."""

from __future__ import annotations

import statistics

from benchmarks._measuring import SPREAD, Benchmark, seconds_of, spread
from crossfarm.util.paths import HOME

GOAL = 1.0

BENCHMARK = Benchmark(
    name="images",
    what="`./inv images` for all targets, every image there, from the shell script on",
    how="median of 10, after one that is not counted",
    goal=f"under {GOAL} s",
    minutes=0.2,
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    command = [str(HOME / "inv"), "images"]
    first = seconds_of(command)
    print(f"the first time, whatever that built: {first:.1f} s")
    samples = [seconds_of(command) for _ in range(3 if small else 10)]
    print(f"{SPREAD}{spread(samples)}")
    value = statistics.median(samples)
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)
