"""int8: int8 cells against the float32 cells of the same models on this machine, through the bundles' own programs.

Beside both stands ONNX Runtime with the same quantised model and its default optimisations, hence its own integer
kernels. All take turns, round by round, with the same input and the same processor; the time of a side is the median
over all runs. What weights and arena take is printed too. A model that is quantised already has no float32 cell and is
left out. The last line is the smallest ratio of float32 to int8 on a target with VNNI, of the models that take at least
0.2 ms in float32. Shorter ones, and those on other targets, must not be slower in int8.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from benchmarks._made import Made, make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between
from benchmarks.latency import Contest, contest, program_times
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

GOALS = {"x86_64_v4": 2.0, "x86_64": 1.0}
"""Target -> how many times as fast int8 has to be."""
SHORTEST_MS = 0.2
"""Time of a float32 cell below which int8 only must not be slower: too little is left to be saved."""

BENCHMARK = Benchmark(
    name="int8",
    what="int8 cells against the float32 cells of the same models, one thread, see [quantisation.md](quantisation.md); "
    "ONNX Runtime's int8 stands beside them",
    how="15 rounds of 20 runs in turns, the median; the smallest ratio",
    goal=f"at least {GOALS['x86_64_v4']:.2f} x with VNNI (`x86_64_v4`), at least {GOALS['x86_64']:.2f} x without "
    "(`x86_64`)",
    minutes=2,
)


def memory(bundle: Path) -> int:
    """Return the bytes of weights and arena of a bundle."""
    arena = json.loads((bundle / "manifest.json").read_text())["weights"]["arena_bytes"]
    return int((bundle / "weights.bin").stat().st_size + arena)


def compare(
    real: Path, quantised: Contest, *, rounds: int, repeat: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the median milliseconds of each round: float32, int8, ONNX Runtime's int8; rounds in turn."""
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(rounds):
        times[0].append(statistics.median(program_times(real, threads=1, repeat=repeat)))
        times[1].append(statistics.median(quantised.ours(threads=1, repeat=repeat)))
        times[2].append(statistics.median(quantised.theirs(repeat=repeat)))
    return times


def on_target(made: Made, target: str, *, rounds: int, repeat: int, small: bool) -> tuple[list[list[float]], bool]:
    """Print a line for each model; returns the ratios of the rounds of those that count, and whether all are good."""
    counted, good = [], True
    for job, model, variant in made.cells(stage="bundle", target=target):
        if variant != "int8":
            continue
        float_job = job.removesuffix("-int8") + "-float32"
        if float_job not in made.plan.jobs:
            print(f"{target:10} {model:24} is quantised already: there is no float32 cell")
            continue
        real, quantised, theirs = compare(
            made.folder(float_job), contest(made, job, threads=1), rounds=rounds, repeat=repeat
        )
        middle = [statistics.median(times) for times in (real, quantised, theirs)]
        ratio, is_short = middle[0] / middle[1], middle[0] < SHORTEST_MS
        good = good and ratio >= (1.0 if is_short else GOALS[target])
        ratios = [one / other for one, other in zip(real, quantised, strict=True)]
        sizes = [memory(made.folder(name)) for name in (float_job, job)]
        if small or not is_short:
            counted.append(ratios)
        note = f"  under {SHORTEST_MS} ms, goal 1.00" if is_short else ""
        print(
            f"{target:10} {model:24} float32 {middle[0]:9.3f} ms int8 {middle[1]:9.3f} ms {ratio:6.2f} x "
            f"({between(ratios)}), ONNX Runtime's int8 {middle[2]:9.3f} ms; "
            f"weights and arena {sizes[0] / 1e6:.2f} and {sizes[1] / 1e6:.2f} MB{note}",
            flush=True,
        )
    return counted, good


def main() -> None:
    """Compare all models that have both cells, on every target of GOALS that this machine runs."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=20, help="runs in a round")
    options = parser.parse_args()
    has_vnni = "avx512_vnni" in Path("/proc/cpuinfo").read_text()
    if not has_vnni and not options.small:
        raise SystemExit("int8: this machine has no AVX-512 VNNI, so the figure cannot be taken here")
    targets = ("x86_64",) if options.small else tuple(GOALS)
    made = make(
        Options(
            models=HOME / "models.yaml",
            store=HOME / ".crossfarm" / "store",
            selection=Selection(
                only=("*-ppocr_cls-*",) if options.small else (),
                targets=targets,
                stages=("fetch", "prepare", "reference", "quantize", "compile", "bundle"),
            ),
        )
    )
    SCRATCH.mkdir(parents=True, exist_ok=True)
    rounds = 2 if options.small else options.rounds
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    all_good, smallest = True, {}
    for target in targets:
        counted, good = on_target(made, target, rounds=rounds, repeat=options.repeat, small=options.small)
        all_good = all_good and good
        medians = [statistics.median(ratios) for ratios in counted]
        smallest[target] = min(zip(medians, counted, strict=True))
        print(
            f"{target}: smallest {min(medians):.2f} x, geometric mean {statistics.geometric_mean(medians):.2f} x "
            f"(goal {GOALS[target]:.2f} x each)"
        )
    value, ratios = smallest[targets[0]]
    print(f"{SPREAD}{between(ratios, 'x')}")
    BENCHMARK.finish(value, "x float32", good=all_good, small=options.small)


if __name__ == "__main__":
    main()
