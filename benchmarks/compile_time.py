"""compile_time: what the rules add to the time of compiling, for the float32 models of models.yaml.

Each model is compiled by a process of its own, with the rules and with all functions left as TVM makes them, in turns.
Importing TVM, reading the model, lowering, LLVM and writing the artifact count on both sides. What is compared is the
processor time, which other work on the machine disturbs less; the wall time stands beside it. The last line is the
geometric mean of the ratios of the medians; the worst model must be within the goal too. Because the import of TVM is
much of a small model's time on both sides, the largest ratio without it is printed too.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks._made import make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between, seconds_of
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

GOAL = 2.0
WAYS = ("scheduled", "unscheduled")

BENCHMARK = Benchmark(
    name="compile_time",
    what="compiling each float32 model with the rules against compiling it without them, one process each, the import "
    "of TVM included",
    how="3 rounds in turns, the median of the processor time; geometric mean of the ratios",
    goal=f"at most {GOAL:.1f} x, the worst model too",
    minutes=4,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seconds:
    """Times of one model, round by round.

    Attributes:
        processor: way -> processor time in seconds.
        wall: way -> wall time in seconds.
    """

    processor: dict[str, list[float]]
    wall: dict[str, list[float]]

    def ratio(self, less: float = 0.0) -> float:
        """Return the median processor time with rules over that without, less some seconds of both."""
        scheduled, unscheduled = (statistics.median(self.processor[way]) - less for way in WAYS)
        return scheduled / unscheduled

    def shown(self, way: str) -> str:
        """Return the medians of one way in words."""
        return f"{statistics.median(self.processor[way]):6.2f} s ({statistics.median(self.wall[way]):.2f} s wall)"


def processor_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def import_seconds(rounds: int) -> float:
    """Return the processor time that importing TVM and ONNX takes, the median of some rounds."""
    found = []
    for _ in range(rounds):
        before = processor_seconds()
        seconds_of([sys.executable, "-c", "import onnx, tvm"])
        found.append(processor_seconds() - before)
    return statistics.median(found)


def measure(model: Path, *, name: str, target: str, rounds: int) -> Seconds:
    """Compile a model in both ways in turn, and return the times."""
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
    return Seconds(processor=processor, wall=wall)


def main() -> None:
    """Compare all models on one target."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", default="x86_64")
    options = parser.parse_args()
    only = (f"{options.target}-silero_vad-*",) if options.small else (f"{options.target}-*-float32",)
    made = make(
        Options(
            models=HOME / "models.yaml",
            store=HOME / ".crossfarm" / "store",
            selection=Selection(only=only, targets=(options.target,), stages=("fetch", "prepare")),
        )
    )
    taken = {}
    times = 1 if options.small else options.rounds
    for cell in made.plan.cells:
        model = made.folder(f"prepare:{cell.model}") / "model.onnx"
        one = measure(model, name=cell.model, target=options.target, rounds=times)
        taken[cell.model] = one
        print(
            f"{cell.model:24} with rules {one.shown('scheduled')}, without {one.shown('unscheduled')} "
            f"{one.ratio():5.2f} x",
            flush=True,
        )
    ratios = [one.ratio() for one in taken.values()]
    rounds = [
        statistics.geometric_mean(
            one.processor["scheduled"][number] / one.processor["unscheduled"][number] for one in taken.values()
        )
        for number in range(len(next(iter(taken.values())).processor["scheduled"]))
    ]
    mean, worst = statistics.geometric_mean(ratios), max(ratios)
    imports = import_seconds(times)
    alone = max(one.ratio(less=imports) for one in taken.values())
    print(f"largest ratio {worst:.2f} (goal {GOAL:.2f}); without the {imports:.2f} s of importing TVM {alone:.2f}")
    print(f"{SPREAD}{between(rounds, 'x')}")
    BENCHMARK.finish(mean, "x the unscheduled", good=mean <= GOAL and worst <= GOAL, small=options.small)


if __name__ == "__main__":
    main()
