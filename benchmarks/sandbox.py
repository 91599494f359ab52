"""sandbox: the time of compiled models shut in, against the same programs as they are, on this machine.

The bundles of the smoke pipeline for this host's target run through the same code as in a measurement: by bubblewrap,
by unshare, and without either. Where one of them does not work the benchmark fails. The ways take turns, in another
order each round, so that what else the machine does hits all of them. The ratio of a round is that of the medians of
its runs, the ratio of a model the median over the rounds. The last line is the largest geometric mean over the models,
of all ways and numbers of threads.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._made import make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between
from crossfarm.boards.result import RESULT, RunResult
from crossfarm.boards.transports.bundle_run import run_bundle
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.stages.measure.artifact import read_file
from crossfarm.util import sandbox

GOAL = 1.02
VISIT_NS = 80e6
"""Time that a program is given each time that it is started."""
FEWEST, MOST = 10, 1000
"""Bounds of the runs in that time."""
WARMUP = 5
ROUNDS = 48
NAMES = {"none": "as it is", "bubblewrap": "bubblewrap", "unshare": "unshare"}

BENCHMARK = Benchmark(
    name="sandbox",
    what="compiled models sandboxed by bubblewrap and by unshare, against the same programs as they are, see "
    "[engines.md](engines.md#programs-on-this-host)",
    how=f"the bundles of the smoke pipeline, 1 and 2 threads; {ROUNDS} rounds in turns, the median of the rounds' "
    "ratios; the largest geometric mean over the models",
    goal=f"at most {GOAL} x",
    minutes=4,
)


def bundles(target: str, *, small: bool) -> Mapping[str, Path]:
    """Return cell -> its bundle, of the plan that is run here."""
    only = ("*-silero_vad-*",) if small else ()
    made = make(Options(pipeline="smoke", selection=Selection(only=only, targets=(target,), stages=("bundle",))))
    return {job.partition(":")[2]: made.folder(job) for job, _, _ in made.cells(stage="bundle", target=target)}


def latency(bundle: Path, kind: sandbox.SandboxKind, *, threads: int, repeat: int) -> Sequence[int]:
    """Return the nanoseconds of each run of one start of a bundle's program."""
    output = SCRATCH / "sandbox" / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    numbers = {"--threads": threads, "--warmup": WARMUP, "--repeat": repeat, "--cases": 1}
    options = [word for name, value in numbers.items() for word in (name, str(value))]
    processors = ",".join(map(str, sorted(os.sched_getaffinity(0))[-threads:]))
    ran = run_bundle(bundle, [*options, "--no-verify", "--affinity", processors], output=output, timeout=600, kind=kind)
    if ran.code != 0:
        raise SystemExit(f"{bundle.name}, {NAMES[kind]}: ended with {ran.code}: {ran.tail}")
    return read_file(RunResult, output / RESULT).latency_ns


def ratios(bundle: Path, kinds: Sequence[sandbox.SandboxKind], *, threads: int, rounds: int) -> Mapping[str, float]:
    """Return way -> time of a model over its time as it is, and print a line."""
    first = statistics.median(latency(bundle, "none", threads=threads, repeat=FEWEST))
    repeat = round(min(max(VISIT_NS / first, FEWEST), MOST))
    orders = list(itertools.permutations(("none", *kinds)))
    samples: dict[str, list[float]] = {kind: [] for kind in ("none", *kinds)}
    for number in range(rounds):
        for kind in orders[number % len(orders)]:
            samples[kind].append(statistics.median(latency(bundle, kind, threads=threads, repeat=repeat)))
    found = {
        kind: statistics.median(
            inside / outside for inside, outside in zip(samples[kind], samples["none"], strict=True)
        )
        for kind in kinds
    }
    said = ", ".join(
        f"{kind} {found[kind]:.3f} (of the least {min(samples[kind]) / min(samples['none']):.3f})" for kind in kinds
    )
    name, alone = bundle.name.removeprefix("bundle-"), statistics.median(samples["none"]) / 1e6
    print(f"{name:40} {threads} threads {alone:8.3f} ms: {said}", flush=True)
    return found


def main() -> None:
    """Compare all models, on each number of threads."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, each at most that of the processors")
    parser.add_argument("--target", default="x86_64")
    options = parser.parse_args()
    kinds: tuple[sandbox.SandboxKind, ...] = ("bubblewrap", "unshare")
    missing = [kind for kind in kinds if not sandbox.works(kind)]
    if missing:
        raise SystemExit(f"{' and '.join(missing)}: does not work here, so cannot be measured; {sandbox.ADVICE}")
    found = bundles(options.target, small=options.small)
    worst, said = 0.0, []
    for threads in map(int, options.threads.split(",")):
        if threads > len(os.sched_getaffinity(0)):
            raise SystemExit(f"--threads {threads}: this machine has {len(os.sched_getaffinity(0))} processors")
        rounds = 2 if options.small else options.rounds
        rows = [ratios(bundle, kinds, threads=threads, rounds=rounds) for bundle in found.values()]
        for kind in kinds:
            each = [row[kind] for row in rows]
            mean = statistics.geometric_mean(each)
            print(f"{threads} threads, {kind}: {mean:.4f}, models {min(each):.3f} to {max(each):.3f}")
            said.append(f"{threads} threads, {kind}: {between(each, 'x').replace('rounds', 'models')}")
            worst = max(worst, mean)
    print(f"{SPREAD}{'; '.join(said)}")
    BENCHMARK.finish(worst, "x the time as it is", good=worst <= GOAL, small=options.small)


if __name__ == "__main__":
    main()
