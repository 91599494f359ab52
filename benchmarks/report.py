"""report: from records at hand and a history of 30 runs to report.html on the disk, for 500 cells and for 10,000.

Each cell has as many numbers, samples, checks and jobs as the int8 cells of the default pipeline have. The larger form
runs in a process of its own, whose most memory is told beside its time; that holds the records too.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measuring import SPREAD, Benchmark, spread
from crossfarm.reports import html
from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptCell, KeptNumber, KeptRun
from crossfarm.reports.history.place import Place
from crossfarm.reports.past import PastReader
from crossfarm.reports.run_view import overview
from crossfarm.results import CheckRecord, EndRecord, JobRecord, MeasurementRecord, Provenance, Record, RunRecord
from crossfarm.util.files import write_text
from crossfarm.util.paths import HOME

GOAL, MOST_MEMORY, MOST_SIZE = 20.0, 1024.0, 5.0
CELLS, FEWER, RUNS, SAMPLES, REPEAT = 10_000, 500, 30, 30, 2
TARGETS = ("x86_64", "aarch64", "armv7")
STAGES = ("compile", "bundle", "measure", "check")
RUNGS = ("float", "quantised", "compiled", "target")

BENCHMARK = Benchmark(
    name="report",
    what=f"report.html of {CELLS:,} cells with {RUNS} runs of history, from records at hand and the history in its "
    "SQLite file to the page on the disk",
    how=f"median of {REPEAT}, each in a process of its own with its most memory; the size of the page of {FEWER} cells",
    goal=f"under {GOAL:g} s, {MOST_MEMORY:g} MiB, and {MOST_SIZE:g} MB for {FEWER} cells",
    minutes=1.0,
)


def cell_records(number: int) -> Iterator[Record]:
    """Yield the records of one cell."""
    model, target = f"model_{number // len(TARGETS):05d}", TARGETS[number % len(TARGETS)]
    cell = f"{target}-{model}-int8"
    command = f"./inv pipeline --models models.yaml --only {cell}"
    found = Provenance(
        board="local",
        timing="silicon" if target == "x86_64" else "emulated",
        cpu_model="AMD EPYC",
        image_digest=f"sha256:{'a' * 64}",
        tvm_version="0.27.0.post1",
        git_commit="b" * 40,
        sandbox="bubblewrap",
    )
    for stage in STAGES:
        yield JobRecord(
            job=f"{stage}:{cell}",
            stage=stage,
            cell=cell,
            model=model,
            target=target,
            variant="int8",
            state="hit",
            seconds=0.0,
            key=f"{number:064x}",
            file="models.yaml",
            line=number + 1,
            command=command,
        )
    numbers = {f"accuracy.{kind}.logits": (1e-6 * (number + 1), "scale") for kind in ("max_abs_diff", "mean_abs_diff")}
    numbers |= {f"ladder.{rung}.right": (0.97 - 0.01 * place, "share") for place, rung in enumerate(RUNGS)}
    numbers |= {f"ladder.{rung}.difference": (0.01 * place, "scale") for place, rung in enumerate(RUNGS)}
    numbers |= dict.fromkeys(("program", "weights", "arena", "peak_rss"), (1000000.0 + number, "bytes"))
    numbers |= {f"latency.{name}": (1e6 + number, "ns") for name in ("p90", "min", "mean")}
    for name, (value, unit) in numbers.items():
        yield MeasurementRecord(cell=cell, name=name, value=value, unit=unit, provenance=found)
    samples = tuple(1e6 + 997 * place for place in range(SAMPLES))
    yield MeasurementRecord(
        cell=cell, name="latency.p50", value=1e6 + number, unit="ns", samples=samples, provenance=found
    )
    for name in ("accuracy.output.logits", "accuracy.argmax", "accuracy.top1.digits", "accuracy.ladder", "latency.p50"):
        yield CheckRecord(
            cell=cell,
            name=name,
            status="failed" if number % 97 == 0 and name == "accuracy.argmax" else "passed",
            value=0.97,
            limit=0.9,
            unit="share",
            cases=400,
            message=f"388 of 400 labelled cases of {model} are decided as the reference does, at least 360 must be",
            details=tuple(f"{place}.png: {place % 10} 0.9{place} - right" for place in range(10)),
            file="models.yaml",
            line=number + 1,
            command=command,
        )


def records(cells: int) -> list[Record]:
    """Return the records of a run."""
    start = RunRecord(run="r1", started="2026-11-30T00:00:00+00:00", command="./inv pipeline", version="1", host="h x")
    return [
        start,
        *(record for number in range(cells) for record in cell_records(number)),
        EndRecord(exit_code=1, seconds=1),
    ]


def make_history(path: Path, cells: int, runs: int) -> None:
    """Keep the median latency of each cell in each of some runs before."""
    with History(Place(file=path)) as kept:
        for number in range(runs):
            kept.add(
                KeptRun(
                    run=f"r{number}",
                    position=float(number),
                    started=f"2026-11-{number % 30 + 1:02d}T00:00:00+00:00",
                    command="./inv pipeline",
                    version="1",
                    tools="{}",
                    git_commit=f"{number:040x}",
                    host="h x",
                    exit_code=0,
                    seconds=1.0,
                    cells=tuple(kept_cell(index, number) for index in range(cells)),
                )
            )


def kept_cell(index: int, run: int) -> KeptCell:
    """Return a cell of a run before; some get slower for good."""
    target, model = TARGETS[index % len(TARGETS)], f"model_{index // len(TARGETS):05d}"
    slower = 1.2 if index % 50 == 0 and run > 20 else 1.0
    samples = tuple(slower * (1e6 + 997 * place + 1e4 * ((run * 5 + index) % 7)) for place in range(SAMPLES))
    number = KeptNumber(name="latency.p50", value=statistics.median(samples), unit="ns", samples=samples)
    return KeptCell(
        cell=f"{target}-{model}-int8",
        target=target,
        model=model,
        variant="int8",
        state="passed",
        cause="",
        board="local@h",
        timing="silicon" if target == "x86_64" else "emulated",
        numbers={"latency.p50": number},
    )


def write_page(cells: int, file: str) -> dict[str, float]:
    """Write the page once; returns its seconds, its size in MB, and the most memory of this process in MiB.

    Args:
        cells: of the run.
        file: of the history; empty for none.
    """
    whole = records(cells)
    seen, past = overview(whole), PastReader(Place(file=Path(file)) if file else None, whole)
    with tempfile.TemporaryDirectory() as folder:
        path, started = Path(folder) / "report.html", time.perf_counter()
        found = past.read(seen)
        write_text(path, html.render(seen, history=found.rows, compared=found.compared, untold=found.told))
        seconds = time.perf_counter() - started
        assert not found.told, found.told
        size = path.stat().st_size / 1e6
    return {"seconds": seconds, "size": size, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_its_own_process(cells: int, file: str) -> dict[str, float]:
    """Return what `write_page` says in a new process."""
    code = f"import json; from benchmarks.report import write_page; print(json.dumps(write_page({cells}, {file!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    is_small = BENCHMARK.parser(__doc__).parse_args().small
    fewer, more, runs, repeat = (5, 50, 3, 2) if is_small else (FEWER, CELLS, RUNS, REPEAT)
    small = in_its_own_process(fewer, "")
    print(f"{fewer} cells: {small['seconds']:.3f} s, {small['size']:.2f} MB, {small['memory']:.0f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        make_history(Path(folder) / "history.db", more, runs)
        rounds = [in_its_own_process(more, str(Path(folder) / "history.db")) for _ in range(repeat)]
    times, memory = [one["seconds"] for one in rounds], max(one["memory"] for one in rounds)
    print(f"{more:,} cells x {runs} runs: {rounds[0]['size']:.1f} MB, {memory:.0f} MiB")
    print(f"{SPREAD}{spread(times)}; at most {memory:.0f} MiB; {small['size']:.2f} MB for {fewer} cells")
    value = statistics.median(times)
    good = value < GOAL and memory < MOST_MEMORY and small["size"] < MOST_SIZE
    BENCHMARK.finish(value, "s", good=good, small=is_small)
