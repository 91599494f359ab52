"""sandbox: the time of compiled models shut in, against the same programs as they are, on this machine.

The bundles of the smoke pipeline for this host's target run through the same code as in a measurement: by each way that
this machine has, and without any. The ways take turns, in another order each round, so that what else the machine does
hits all of them. The ratio of a round is that of the medians of its runs, the ratio of a model the median over the
rounds. The last line is the largest geometric mean over the models, of all ways and numbers of threads.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._measuring import INV, SCRATCH, finish, seconds_of
from crossfarm.boards import sandbox
from crossfarm.boards.bundle_run import run_bundle
from crossfarm.options import Options
from crossfarm.pipeline import load, plan_and_decide
from crossfarm.plan import Selection
from crossfarm.stages.measure_file import RESULT, RunnerResult, read_file
from crossfarm.store import Store

GOAL = 1.02
VISIT_NS = 80e6
"""Time that a program is given each time that it is started."""
FEWEST, MOST = 10, 1000
"""Bounds of the runs in that time."""
WARMUP = 5
NAMES = {"none": "as it is", "bubblewrap": "bubblewrap", "unshare": "unshare"}


def bundles(target: str) -> Mapping[str, Path]:
    """Return cell -> its bundle, of the plan that is run here."""
    options = Options(pipeline="smoke", engine="local", selection=Selection(targets=(target,), stages=("bundle",)))
    words = ["--pipeline", "smoke", "--engine", "local", "--targets", target, "--stages", "bundle"]
    seconds_of([*INV, "pipeline", *words, "--out", str(SCRATCH / "out")])
    store = Store(options.store)
    plan, _ = plan_and_decide(options, load(options), store)
    found = {}
    for job in plan.jobs.values():
        if job.stage == "bundle" and job.cell is not None:
            artifact = store.read(job.key)
            if artifact is None:
                raise SystemExit(f"the store {store.root} has no {job.id}; run ./inv pipeline --pipeline smoke")
            folder = SCRATCH / "sandbox" / job.cell.id
            shutil.rmtree(folder, ignore_errors=True)
            store.restore(artifact, folder)
            found[job.cell.id] = folder
    return found


def latency(bundle: Path, kind: sandbox.Kind, *, threads: int, repeat: int) -> Sequence[int]:
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
    return read_file(RunnerResult, output / RESULT).latency_ns


def ratios(bundle: Path, kinds: Sequence[sandbox.Kind], *, threads: int, rounds: int) -> Mapping[str, float]:
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
    print(f"{bundle.name:40} {threads} threads {statistics.median(samples['none']) / 1e6:8.3f} ms: {said}", flush=True)
    return found


def main() -> None:
    """Compare all models, on each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, each at most that of the processors")
    parser.add_argument("--target", default="x86_64")
    options = parser.parse_args()
    kinds: list[sandbox.Kind] = [kind for kind in ("bubblewrap", "unshare") if sandbox.works(kind)]
    if not kinds:
        raise SystemExit(f"this machine has neither bubblewrap nor unshare that works; {sandbox.ADVICE}")
    print(f"ways that work here: {', '.join(kinds)}")
    found = bundles(options.target)
    worst = 0.0
    for threads in map(int, options.threads.split(",")):
        if threads > len(os.sched_getaffinity(0)):
            raise SystemExit(f"--threads {threads}: this machine has {len(os.sched_getaffinity(0))} processors")
        rows = [ratios(bundle, kinds, threads=threads, rounds=options.rounds) for bundle in found.values()]
        for kind in kinds:
            each = [row[kind] for row in rows]
            mean = statistics.geometric_mean(each)
            print(f"{threads} threads, {kind}: {mean:.4f}, models {min(each):.3f} to {max(each):.3f}")
            worst = max(worst, mean)
    finish("sandbox", worst, "x the time as it is", f"at most {GOAL:.2f}", good=worst <= GOAL)


if __name__ == "__main__":
    main()
