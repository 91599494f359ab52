"""compile_time: what the rules add to the time of compiling, for the float32 models of models.yaml.

Each model is compiled by a process of its own, with the rules and with all functions left as TVM makes them, in turns.
Importing TVM, reading the model, lowering, LLVM and writing the artifact count on both sides. What is compared is the
processor time, which other work on the machine disturbs less; the wall time stands beside it. The last line is the
geometric mean of the ratios of the medians; the worst model must be within the goal too.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks._measuring import INV, ROOT, SCRATCH, finish, seconds_of
from benchmarks.latency import restored
from crossfarm.spec.loading import load_models
from crossfarm.store import Store

GOAL = 2.0
WAYS = ("scheduled", "unscheduled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seconds:
    """Medians of one model.

    Attributes:
        processor: way -> processor time in seconds.
        wall: way -> wall time in seconds.
    """

    processor: dict[str, float]
    wall: dict[str, float]

    def ratio(self) -> float:
        """Return the processor time with rules over that without."""
        return self.processor["scheduled"] / self.processor["unscheduled"]


def processor_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure(model: Path, *, name: str, target: str, rounds: int) -> Seconds:
    """Compile a model in both ways in turn, and return the medians."""
    processor: dict[str, list[float]] = {way: [] for way in WAYS}
    wall: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            output = SCRATCH / "compiled"
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir(parents=True)
            before = processor_seconds()
            command = [sys.executable, "-m", "benchmarks._compile", way, str(model), name, target, str(output)]
            wall[way].append(seconds_of(command))
            processor[way].append(processor_seconds() - before)
    medians = [{way: statistics.median(times[way]) for way in WAYS} for times in (processor, wall)]
    return Seconds(processor=medians[0], wall=medians[1])


def main() -> None:
    """Compare all models on one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", default="x86_64")
    parser.add_argument("--store", type=Path, help="of an earlier run; without it the models are prepared first")
    options = parser.parse_args()
    store = Store(options.store or ROOT / ".crossfarm" / "store")
    if options.store is None:
        seconds_of([*INV, "pipeline", "--targets", options.target, "--stages", "fetch,prepare"])
    names = [model.name for model in load_models(ROOT / "models.yaml").models if "float32" in model.variants]
    ratios = []
    for name in names:
        model = restored(store, f"prepare:{name}") / "model.onnx"
        taken = measure(model, name=name, target=options.target, rounds=options.rounds)
        ratios.append(taken.ratio())
        print(
            f"{name:24} with rules {taken.processor['scheduled']:6.2f} s ({taken.wall['scheduled']:.2f} s wall), "
            f"without {taken.processor['unscheduled']:6.2f} s ({taken.wall['unscheduled']:.2f} s wall) "
            f"{taken.ratio():5.2f} x",
            flush=True,
        )
    mean, worst = statistics.geometric_mean(ratios), max(ratios)
    print(f"largest ratio {worst:.2f} (goal {GOAL:.2f})")
    good = mean <= GOAL and worst <= GOAL
    finish("compile_time", mean, "x the unscheduled", f"at most {GOAL:.1f}", good=good)


if __name__ == "__main__":
    main()
