"""images: `./inv images` for all targets when the engine has every image, from the shell script on."""

from __future__ import annotations

import statistics

from benchmarks._measuring import ROOT, finish, seconds_of, spread

GOAL = 1.0

if __name__ == "__main__":
    command = [str(ROOT / "inv"), "images"]
    first = seconds_of(command)
    print(f"the first time, whatever that built: {first:.1f} s")
    samples = [seconds_of(command) for _ in range(10)]
    print(f"all images there: {spread(samples)}")
    value = statistics.median(samples)
    finish("images", value, "s", f"under {GOAL} s", good=value < GOAL)
