"""start: how long `inv --list` takes, from the shell script on."""

from __future__ import annotations

import statistics

from benchmarks._measuring import ROOT, finish, seconds_of, spread

GOAL = 0.6

if __name__ == "__main__":
    samples = [seconds_of([str(ROOT / "inv"), "--list"]) for _ in range(11)][1:]
    print(f"./inv --list: {spread(samples)}")
    value = statistics.median(samples)
    finish("start", value, "s", f"under {GOAL} s", good=value < GOAL)
