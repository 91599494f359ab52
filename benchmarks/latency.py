"""latency: compiled models against ONNX Runtime on this machine, through the bundle's own program.

Both sides get the same input (case 0 of the reference), the same processors and the same number of threads, and take
turns, round by round, so that what else the machine does hits both. The time of a round is the median of its runs, that
of a model the median over all runs. The last line is the geometric mean of the ratios of the float models that take at
least 0.2 ms in ONNX Runtime. `held_out` compares models that no rule was chosen on.

The last column is the program's peak memory beyond 1.1 times weights and arena plus 2 MB, in MB. A cell of any variant
that is beyond fails the benchmark.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks._held_out import write_models
from benchmarks._measuring import INV, ROOT, SCRATCH, finish, seconds_of
from crossfarm.store import Store

GOALS = {1: (1.00, 1.25), 2: (1.05, 1.30)}
"""Threads -> the largest geometric mean, and the largest ratio of any model, by rules alone."""
TUNED_GOALS = {1: (0.90, 1.10), 2: (0.90, 1.10)}
"""Likewise with what searches took, where there are records."""
SHORTEST_MS = 0.2
WARMUP = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contest:
    """One model on both sides.

    Attributes:
        name: of the model.
        variant: float32 or int8.
        bundle: folder of the unpacked bundle.
        session: ONNX Runtime's.
        inputs: of case 0.
    """

    name: str
    variant: str
    bundle: Path
    session: Any
    inputs: dict[str, Any]

    def ours(self, *, threads: int, repeat: int) -> list[float]:
        """Return the milliseconds of each run of the program."""
        result = SCRATCH / "result.json"
        processors = ",".join(map(str, range(threads)))
        options = [
            "--threads",
            str(threads),
            "--affinity",
            processors,
            "--warmup",
            str(WARMUP),
            "--repeat",
            str(repeat),
        ]
        outputs = ["--outputs", str(SCRATCH / "outputs"), "--result", str(result), "--cases", "1", "--no-verify"]
        (SCRATCH / "outputs").mkdir(exist_ok=True)
        subprocess.run([str(self.bundle / "program"), str(self.bundle), *options, *outputs], check=True)
        return [nanoseconds / 1e6 for nanoseconds in json.loads(result.read_text())["latency_ns"]]

    def memory_beyond(self) -> float:
        """Return the peak memory of the last run of the program beyond what it may take, in MB."""
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        weights = (self.bundle / "weights.bin").stat().st_size
        peak = json.loads((SCRATCH / "result.json").read_text())["peak_rss_bytes"]
        return float(peak - 1.1 * (weights + manifest["weights"]["arena_bytes"]) - 2e6) / 1e6

    def theirs(self, *, repeat: int) -> list[float]:
        """Return the milliseconds of each run of ONNX Runtime."""
        for _ in range(WARMUP):
            self.session.run(None, self.inputs)
        times = []
        for _ in range(repeat):
            started = time.perf_counter()
            self.session.run(None, self.inputs)
            times.append((time.perf_counter() - started) * 1e3)
        return times


def restored(store: Store, job: str) -> Path:
    """Return a folder with the newest artifact of a job.

    Raises:
        SystemExit: there is none.
    """
    artifact = store.last_artifact(job)
    if artifact is None:
        raise SystemExit(f"the store {store.root} has no {job}; run ./inv pipeline first")
    folder = SCRATCH / job.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store.restore(artifact, folder)
    return folder


def contest(store: Store, job: str, *, target: str, threads: int) -> Contest:
    """Prepare both sides of one bundle."""
    bundle = restored(store, job)
    manifest = json.loads((bundle / "manifest.json").read_text())
    name = manifest["model"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    made_by = "quantize" if manifest["variant"] == "int8" else "prepare"
    model = restored(store, f"{made_by}:{name}") / "model.onnx"
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    inputs = {
        port["name"]: np.fromfile(
            bundle / port["file"], dtype=port["dtype"], count=int(np.prod(port["shape"]))
        ).reshape(port["shape"])
        for port in manifest["inputs"]
    }
    return Contest(name=name, variant=manifest["variant"], bundle=bundle, session=session, inputs=inputs)


def compare(one: Contest, *, threads: int, rounds: int, repeat: int) -> tuple[float, float]:
    """Return the median milliseconds of both sides, ours first, from rounds in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours += one.ours(threads=threads, repeat=repeat)
        theirs += one.theirs(repeat=repeat)
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    """Compare all models on one number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="?", default="models", choices=("models", "held_out"), help="models.yaml or others"
    )
    parser.add_argument("--threads", type=int, default=1, choices=sorted(GOALS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20, help="runs in a round")
    parser.add_argument("--target", default="x86_64")
    parser.add_argument("--store", type=Path, help="of an earlier run; without it the bundles are made first")
    parser.add_argument("--rules", action="store_true", help="without records of tuning")
    options = parser.parse_args()
    os.sched_setaffinity(0, range(options.threads))
    SCRATCH.mkdir(parents=True, exist_ok=True)
    folder = SCRATCH / "held_out" if options.models == "held_out" else ROOT
    store = Store(options.store or folder / ".crossfarm" / "store")
    if options.store is None:
        models = write_models(folder) if options.models == "held_out" else ROOT / "models.yaml"
        where = ["--models", str(models), "--store", str(store.root), "--out", str(SCRATCH / "out")]
        how = ["--pipeline", "rules" if options.rules else "speed", "--targets", options.target]
        seconds_of([*INV, "pipeline", *where, *how, "--stages", "fetch,prepare,reference,compile,bundle"])
    ratios, too_large = [], []
    for job in sorted(job for job in store.known_jobs() if job.startswith(f"bundle:{options.target}-")):
        one = contest(store, job, target=options.target, threads=options.threads)
        ours, theirs = compare(one, threads=options.threads, rounds=options.rounds, repeat=options.repeat)
        beyond = one.memory_beyond()
        if beyond > 0:
            too_large.append(f"{one.name} {one.variant}: {beyond:.2f} MB")
        counted = one.variant == "float32" and theirs >= SHORTEST_MS
        if counted:
            ratios.append(ours / theirs)
        note = "" if counted else "  (not counted)"
        print(
            f"{one.name:24} {one.variant:8} {ours:9.3f} ms {theirs:9.3f} ms {ours / theirs:6.2f} x {beyond:6.2f}{note}",
            flush=True,
        )
    mean, worst = statistics.geometric_mean(ratios), max(ratios)
    goal, bound = (GOALS if options.rules else TUNED_GOALS)[options.threads]
    good = mean <= goal and worst <= bound and not too_large
    print(f"{options.threads} threads, largest ratio {worst:.2f} (goal {bound:.2f})")
    if too_large:
        print(f"beyond the goal for memory, 1.1 x (weights + arena) + 2 MB: {', '.join(too_large)}")
    finish("latency", mean, "x ONNX Runtime", f"at most {goal:.2f}", good=good)


if __name__ == "__main__":
    main()
