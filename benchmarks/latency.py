"""latency: compiled models against ONNX Runtime on this machine, through the bundle's own program.

Both sides get the same input (case 0 of the reference), the same processors and the same number of threads, of which
neither pins any to one of them, and take turns, round by round, so that what else the machine does hits both. ONNX
Runtime's inputs and outputs are bound once, as ours lie in the model's own memory. The time of a round is the median
of its runs, that of a model the median over all runs. The last line is the geometric mean of the ratios of the float
models that take at least 0.2 ms in ONNX Runtime. `held_out` compares models that no rule was chosen on; `transformers`
an encoder of texts, a vision transformer and a decoder, none of which may be slower than ONNX Runtime.

The last column is the program's peak memory beyond 1.1 times weights and arena plus 2 MB, in MB. A cell of any variant
that is beyond fails the benchmark.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks import _held_out, _transformers
from benchmarks._made import Made, make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

GOALS = {1: (1.00, 1.25), 2: (1.05, 1.30)}
"""Threads -> the largest geometric mean, and the largest ratio of any model, by rules alone."""
TUNED_GOALS = {1: (0.90, 1.10), 2: (0.90, 1.10)}
"""Likewise with what searches took, where there are records."""
TRANSFORMER_GOALS = {1: (1.00, 1.00), 2: (1.05, 1.30)}
"""Likewise of transformers, for which there are no records."""
SHORTEST_MS = 0.2
WARMUP = 5
_OTHERS = {"held_out": _held_out.write_models, "transformers": _transformers.write_models}
"""Models that are not in models.yaml -> what writes them and a list of them."""

BENCHMARK = Benchmark(
    name="latency",
    what="compiled models against ONNX Runtime at the same number of threads, see [performance.md](performance.md)",
    how="5 rounds of 20 runs in turns, the median; geometric mean of the float models that take "
    f"{SHORTEST_MS} ms or more",
    goal=f"tuned at most {TUNED_GOALS[1][0]:.2f} x with 1 thread and none over {TUNED_GOALS[1][1]:.2f} x; "
    f"{TUNED_GOALS[2][0]:.2f} x and {TUNED_GOALS[2][1]:.2f} x with `--threads 2`; with `--rules` {GOALS[1][0]:.2f} x, "
    f"{GOALS[1][1]:.2f} x, {GOALS[2][0]:.2f} x and {GOALS[2][1]:.2f} x; no transformer over "
    f"{TRANSFORMER_GOALS[1][1]:.2f} x with 1 thread; no run over 1.1 x (weights + arena) + 2 MB",
    minutes=1.5,
    forms=("--threads 2", "--rules", "transformers --rules"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Milliseconds of both sides, round by round.

    Attributes:
        ours: of each run of each round.
        theirs: likewise.
    """

    ours: list[list[float]]
    theirs: list[list[float]]

    def medians(self) -> tuple[float, float]:
        """Return the median over all runs of both sides, ours first."""
        return statistics.median(chain(*self.ours)), statistics.median(chain(*self.theirs))

    def ratios(self) -> list[float]:
        """Return the ratio of the medians of each round."""
        return [
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in zip(self.ours, self.theirs, strict=True)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contest:
    """One model on both sides.

    Attributes:
        name: of the model.
        variant: float32 or int8.
        bundle: folder of the unpacked bundle.
        session: ONNX Runtime's.
        binding: its inputs and outputs, bound.
    """

    name: str
    variant: str
    bundle: Path
    session: Any
    binding: Any

    def ours(self, *, threads: int, repeat: int) -> list[float]:
        """Return the milliseconds of each run of the program."""
        return program_times(self.bundle, threads=threads, repeat=repeat)

    def memory_beyond(self) -> float:
        """Return the peak memory of the last run of the program beyond what it may take, in MB."""
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        weights = (self.bundle / "weights.bin").stat().st_size
        peak = json.loads((SCRATCH / "result.json").read_text())["peak_rss_bytes"]
        return float(peak - 1.1 * (weights + manifest["weights"]["arena_bytes"]) - 2e6) / 1e6

    def theirs(self, *, repeat: int) -> list[float]:
        """Return the milliseconds of each run of ONNX Runtime."""
        for _ in range(WARMUP):
            self.session.run_with_iobinding(self.binding)
        times = []
        for _ in range(repeat):
            started = time.perf_counter()
            self.session.run_with_iobinding(self.binding)
            times.append((time.perf_counter() - started) * 1e3)
        return times


def program_times(bundle: Path, *, threads: int, repeat: int) -> list[float]:
    """Return the milliseconds of each run of a bundle's program on case 0; its processors are this process's."""
    result, outputs = SCRATCH / "result.json", SCRATCH / "outputs"
    outputs.mkdir(parents=True, exist_ok=True)
    numbers = {"--threads": threads, "--warmup": WARMUP, "--repeat": repeat, "--cases": 1}
    options = [str(word) for pair in numbers.items() for word in pair]
    files = ["--outputs", str(outputs), "--result", str(result), "--no-verify"]
    subprocess.run([str(bundle / "program"), str(bundle), *options, *files], check=True)
    return [nanoseconds / 1e6 for nanoseconds in json.loads(result.read_text())["latency_ns"]]


def bound_session(model: Path, bundle: Path, *, threads: int) -> tuple[Any, Any]:
    """Return a session of ONNX Runtime with its default optimisations, and case 0 of a bundle bound to it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for port in json.loads((bundle / "manifest.json").read_text())["inputs"]:
        values = np.fromfile(bundle / port["file"], dtype=port["dtype"], count=int(np.prod(port["shape"])))
        binding.bind_ortvalue_input(
            port["name"], onnxruntime.OrtValue.ortvalue_from_numpy(values.reshape(port["shape"]))
        )
    session.run_with_iobinding(_with_outputs(session, binding))  # so that shapes are known and memory is there
    return session, binding


def _with_outputs(session: Any, binding: Any) -> Any:
    for port in session.get_outputs():
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(port.shape, _element_type(port.type), "cpu")
        binding.bind_ortvalue_output(port.name, value)
    return binding


def _element_type(name: str) -> Any:
    """Return NumPy's type for what ONNX Runtime calls `tensor(float)`."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner)).type


def contest(made: Made, job: str, *, threads: int) -> Contest:
    """Prepare both sides of one bundle."""
    bundle = made.folder(job)
    manifest = json.loads((bundle / "manifest.json").read_text())
    made_by = "quantize" if manifest["variant"] == "int8" else "prepare"
    model = made.folder(f"{made_by}:{manifest['model']}") / "model.onnx"
    session, binding = bound_session(model, bundle, threads=threads)
    return Contest(name=manifest["model"], variant=manifest["variant"], bundle=bundle, session=session, binding=binding)


def compare(one: Contest, *, threads: int, rounds: int, repeat: int) -> Times:
    """Return the milliseconds of both sides, from rounds in turn."""
    times = Times(ours=[], theirs=[])
    for _ in range(rounds):
        times.ours.append(one.ours(threads=threads, repeat=repeat))
        times.theirs.append(one.theirs(repeat=repeat))
    return times


def _small(models: str) -> tuple[str, ...]:
    return ("*-encoder-*",) if models == "transformers" else ("*-silero_vad-*",)


def main() -> None:
    """Compare all models on one number of threads."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument(
        "models", nargs="?", default="models", choices=("models", *_OTHERS), help="models.yaml or others"
    )
    parser.add_argument("--threads", type=int, default=1, choices=sorted(GOALS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20, help="runs in a round")
    parser.add_argument("--target", default="x86_64")
    parser.add_argument("--rules", action="store_true", help="without records of tuning")
    options = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    write = _OTHERS.get(options.models)
    folder = SCRATCH / options.models if write else HOME
    made = make(
        Options(
            models=write(folder) if write else HOME / "models.yaml",
            store=folder / ".crossfarm" / "store",
            pipeline="rules" if options.rules else "speed",
            selection=Selection(
                only=_small(options.models) if options.small else (),
                targets=(options.target,),
                stages=("fetch", "prepare", "reference", "quantize", "compile", "bundle"),
            ),
        )
    )
    rounds = 2 if options.small else options.rounds
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    medians, by_round, too_large = [], [], []
    for job, _, _ in made.cells(stage="bundle", target=options.target):
        one = contest(made, job, threads=options.threads)
        times = compare(one, threads=options.threads, rounds=rounds, repeat=options.repeat)
        (ours, theirs), beyond = times.medians(), one.memory_beyond()
        if beyond > 0:
            too_large.append(f"{one.name} {one.variant}: {beyond:.2f} MB")
        counted = one.variant == "float32" and (theirs >= SHORTEST_MS or options.small)
        if counted:
            medians.append(ours / theirs)
            by_round.append(times.ratios())
        note = "" if counted else "  (not counted)"
        print(
            f"{one.name:24} {one.variant:8} {ours:9.3f} ms {theirs:9.3f} ms {ours / theirs:6.2f} x "
            f"({between(times.ratios())}) {beyond:6.2f}{note}",
            flush=True,
        )
    mean, worst = statistics.geometric_mean(medians), max(medians)
    goals = GOALS if options.rules else TUNED_GOALS
    goal, bound = (TRANSFORMER_GOALS if options.models == "transformers" else goals)[options.threads]
    print(f"{options.threads} threads, largest ratio {worst:.2f} (goal {bound:.2f})")
    print(f"{SPREAD}{between([statistics.geometric_mean(ratios) for ratios in zip(*by_round, strict=True)], 'x')}")
    if too_large:
        print(f"beyond the goal for memory, 1.1 x (weights + arena) + 2 MB: {', '.join(too_large)}")
    BENCHMARK.finish(
        mean, "x ONNX Runtime", good=mean <= goal and worst <= bound and not too_large, small=options.small
    )


if __name__ == "__main__":
    main()
