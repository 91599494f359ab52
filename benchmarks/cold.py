"""cold: what the farm costs on top of compiling, and what a second job at once gains.

A plain script calls the backend in one process, one compile after another. The farm makes the same artifacts with
`--stages compile`, everything before it being in the store. The script has from the plan what the farm's jobs have: the
prepared model, or the quantised one for an int8 cell, the toolchain's code, and what searches found. It compiles in the
order in which the farm did at `--jobs 1`, and its files must be the farm's, byte for byte. All three ways take turns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._made import Made, make, planned
from benchmarks._measuring import INV, SCRATCH, SPREAD, Benchmark, between, seconds_of, spread
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.results import JobRecord, last_run, read_records

MODELS = ("silero_vad", "ppocr_cls", "mnist_cnn", "resnet8")
TARGETS = ("x86_64", "aarch64", "armv7")
MOST_OVERHEAD = 1.05
LEAST_GAIN = 1.7
SMALL = ("x86_64-silero_vad-*", "x86_64-resnet8-int8")
ROUNDS = 3
WORK = SCRATCH / "cold"

BENCHMARK = Benchmark(
    name="cold",
    what=f"compiling {len(MODELS)} models for {len(TARGETS)} targets, against a plain script that does the same "
    "compiles one after another",
    how=f"three ways take turns, {ROUNDS} rounds; median of the ratios",
    goal=f"at most {MOST_OVERHEAD} x at `--jobs 1`, and at least {LEAST_GAIN} x faster at `--jobs 2`",
    minutes=8,
)

PLAIN = """
import json, sys
from pathlib import Path
import crossfarm.backends.tvm.backend as backend
from crossfarm.config.cell import Cell
from crossfarm.config.llvm import LlvmCode
for compile in json.loads(Path(sys.argv[1]).read_text()):
    output = Path(compile["output"])
    output.mkdir(parents=True)
    backend.compile(
        cell=Cell(**compile["cell"]), model=Path(compile["model"]), code=LlvmCode(**compile["code"]),
        output=output, tuned=compile["tuned"],
    )
"""


def selection(stages: Sequence[str], *, small: bool) -> Selection:
    """Return the cells that are compiled; the small form has one with records of a search, and one in int8."""
    only = SMALL if small else tuple(f"*-{model}-*" for model in MODELS)
    return Selection(only=only, targets=TARGETS[:1] if small else TARGETS, stages=tuple(stages))


def farm(jobs: int, before: Path, chosen: Selection) -> float:
    """Return the seconds of the farm with `jobs` at once, on a copy of the store that holds no compile."""
    folder = WORK / f"farm-{jobs}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder / "store", copy_function=shutil.copy2)
    return seconds_of(
        [
            *INV, "pipeline", "--engine", "local", "--jobs", str(jobs),
            "--only", ",".join(chosen.only), "--targets", ",".join(chosen.targets), "--stages", "compile",
            "--store", str(folder / "store"), "--out", str(folder / "out"),
        ]
    )  # fmt: skip


def compiles(made: Made, results: Path) -> list[dict[str, Any]]:
    """Return what the script is given: each compile of a run of the farm as planned, in the order of that run."""
    ran = [record for record in last_run(read_records(results)) if isinstance(record, JobRecord)]
    order = {record.job: record.started for record in ran if record.state == "run"}
    found = []
    for job in made.plan.jobs.values():
        if job.stage != "compile" or job.cell is None:
            continue
        if job.id not in order:
            raise SystemExit(f"the farm did not compile {job.id}")
        (source,) = job.inputs.values()
        tuned = next((group for name, group in job.groups.items() if name.startswith("tuning ")), None)
        found.append(
            {
                "job": job.id,
                "cell": {"model": job.cell.model, "target": job.cell.target, "variant": job.cell.variant},
                "model": str(made.folder(source) / "model.onnx"),
                "code": job.groups[f"toolchain {job.cell.target}"]["code"],
                "tuned": tuned,
                "output": str(WORK / "plain" / job.cell.id),
            }
        )
    return sorted(found, key=lambda one: (order[one["job"]], one["job"]))


def compare_files(made: Made, orders: Sequence[dict[str, Any]]) -> None:
    """End the benchmark unless the script made the very files that the farm made."""
    for order in orders:
        theirs = made.folder(order["job"])
        for path in sorted(theirs.rglob("*")):
            mine = Path(order["output"]) / path.relative_to(theirs)
            if path.is_file() and not (mine.is_file() and mine.read_bytes() == path.read_bytes()):
                raise SystemExit(f"{order['job']}: the script's {path.name} is not the farm's, so they did other work")


def main() -> None:
    """Prepare the models, then time the three ways in turn."""
    small = BENCHMARK.parser(__doc__).parse_args().small
    shutil.rmtree(WORK, ignore_errors=True)
    before = WORK / "before" / "store"
    make(Options(store=before, engine="local", selection=selection(("prepare", "quantize"), small=small)))
    chosen = selection(("compile",), small=small)
    plain, one, two = [], [], []
    for turn in range(1 if small else ROUNDS):
        one.append(farm(1, before, chosen))
        made = planned(Options(store=WORK / "farm-1" / "store", engine="local", selection=chosen))
        orders = compiles(made, WORK / "farm-1" / "out" / "results.jsonl")
        (WORK / "orders.json").write_text(json.dumps(orders))
        shutil.rmtree(WORK / "plain", ignore_errors=True)
        plain.append(seconds_of([sys.executable, "-c", PLAIN, str(WORK / "orders.json")]))
        compare_files(made, orders)
        two.append(farm(2, before, chosen))
        print(
            f"round {turn + 1}: plain {plain[-1]:.1f} s, --jobs 1 {one[-1]:.1f} s, --jobs 2 {two[-1]:.1f} s", flush=True
        )
    for name, samples in (("plain script", plain), ("--jobs 1", one), ("--jobs 2", two)):
        print(f"{name}, {len(orders)} compiles: {spread(samples)}")
    overheads = [o / p for o, p in zip(one, plain, strict=True)]
    gains = [o / t for o, t in zip(one, two, strict=True)]
    overhead, gain = statistics.median(overheads), statistics.median(gains)
    print(f"--jobs 2 is {gain:.2f} x faster than --jobs 1 (goal at least {LEAST_GAIN})")
    print(f"{SPREAD}{between(overheads, 'x')}; --jobs 2 faster by {gain:.2f} x, {between(gains)}")
    shutil.rmtree(WORK, ignore_errors=True)
    BENCHMARK.finish(
        overhead,
        "x of a plain script at --jobs 1",
        good=overhead <= MOST_OVERHEAD and gain >= LEAST_GAIN,
        small=small,
    )


if __name__ == "__main__":
    main()
