"""history: adding a run of 1,000 cells to a history that holds 12 such runs, and the verdicts about it.

Each cell has 15 numbers, 30 samples of its latency and 3 checks. The run is added as a pipeline does it, into a SQLite
file; shown beside it are a run of 100 cells, which is about what a warm run of the default pipeline writes, and a
PostgreSQL where one is named by CROSSFARM_BENCH_HISTORY. The verdicts are those of `./inv compare baseline latest`: the
runs before are read, and every number is judged.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import statistics
import time
from pathlib import Path

from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, spread
from crossfarm.reports.history.database import History
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.place import Place, read_place
from crossfarm.reports.regression.comparison import WINDOW, baseline, compare, judged_names
from crossfarm.results import CheckRecord, EndRecord, JobRecord, MeasurementRecord, Provenance, Record, RunRecord

MOST_INSERT, MOST_VERDICTS = 2.0, 3.0
CELLS, FEWER, SAMPLES, ROUNDS = 1000, 100, 30, 3

BENCHMARK = Benchmark(
    name="history",
    what=f"adding a run of {CELLS:,} cells, 15 numbers and {SAMPLES} samples each, to a history of {WINDOW} such runs, "
    "and the verdicts about it; adding one of 100 cells is shown beside it",
    how=f"median of {ROUNDS}, a SQLite file; the verdicts with the reading of the runs before",
    goal=f"under {MOST_INSERT:g} s, and verdicts under {MOST_VERDICTS:g} s",
    minutes=0.2,
)

SIZES = ("program", "weights", "arena", "workspace_peak", "peak_rss")
OTHERS = ("latency.p90", "latency.min", "latency.mean", "latency.cv", "load_time", "verify_time")
ACCURACY = ("accuracy.max_abs_diff.y", "accuracy.top1.digits")


def run_records(number: int, cells: int) -> list[Record]:
    """Return the records of a run."""
    source = random.Random(number)  # noqa: S311
    board = Provenance(board="pi-1", timing="silicon", cpu_model="Cortex-A53", governor="performance", temperature=51.5)
    names = [f"aarch64-model_{index:04d}-float32" for index in range(cells)]
    found: list[Record] = [
        RunRecord(
            run=f"run-{number}-{cells}",
            started=f"2026-11-{1 + number:02d}T12:00:00+00:00",
            command="./inv pipeline",
            version="1",
            host="builder x86_64",
            cells=tuple(names),
        )
    ]
    for cell in names:
        for stage in ("compile", "bundle", "measure", "check"):
            found.append(
                JobRecord(job=f"{stage}:{cell}", stage=stage, cell=cell, state="run", seconds=1.0, key="a" * 64)
            )
        times = tuple(float(round(source.gauss(1e6, 2e4))) for _ in range(SAMPLES))
        values = {"latency.p50": (statistics.median(times), times), "latency.n": (float(SAMPLES), ())}
        values |= dict.fromkeys((*SIZES, *OTHERS), (1000000.0, ())) | dict.fromkeys(ACCURACY, (0.5, ()))
        found += [
            MeasurementRecord(cell=cell, name=name, value=value, unit="ns", samples=samples, provenance=board)
            for name, (value, samples) in values.items()
        ]
        found += [
            CheckRecord(cell=cell, name=f"check.{check}", status="passed", value=1.0, message="as it should be")
            for check in range(3)
        ]
    return [*found, EndRecord(exit_code=0, seconds=60.0)]


def added(place: Place, first: int, cells: int, rounds: int) -> list[float]:
    """Return the seconds in which each of some runs was added."""
    samples = []
    for number in range(first, first + rounds):
        records = run_records(number, cells)
        started = time.perf_counter()
        told = keep_run(records, place, results=Path("results.jsonl"))
        samples.append(time.perf_counter() - started)
        if told:
            raise SystemExit(told)
    return samples


def verdicts(place: Place, cells: int) -> float:
    """Return the seconds of the verdicts about the last run."""
    with History(place) as history:
        run = history.read(history.run_ids()[-1])
        started = time.perf_counter()
        before = history.before(run, runs=WINDOW, names=judged_names(run))
        found = compare("baseline", baseline(before, run), run)
        seconds = time.perf_counter() - started
    assert sum(row.metric == "latency.p50" for row in found.rows) == cells
    return seconds


def main() -> None:
    """Time all of them."""
    gc.set_threshold(200_000, 50, 50)  # as the command line does
    small = BENCHMARK.parser(__doc__).parse_args().small
    cells, fewer = (20, 5) if small else (CELLS, FEWER)
    folder = SCRATCH / "history"
    shutil.rmtree(folder, ignore_errors=True)
    place = Place(file=folder / "history.db")
    with History(place) as history:
        history.add_all([kept_run(run_records(number, cells)) for number in range(WINDOW)])
    inserts = added(place, WINDOW, cells, ROUNDS)
    judged = [verdicts(place, cells) for _ in range(ROUNDS)]
    size = (folder / "history.db").stat().st_size
    print(f"{cells:,} cells added: {spread(inserts)}; {size / 2**20:.1f} MiB for {WINDOW + ROUNDS} runs")
    print(f"verdicts about them: {spread(judged)}")
    print(f"{fewer} cells added: {spread(added(place, WINDOW, fewer, ROUNDS), 'ms', 1e3)}")
    if url := os.environ.get("CROSSFARM_BENCH_HISTORY"):
        print(f"{cells:,} cells added to PostgreSQL: {spread(added(read_place(url, said_by=''), 0, cells, ROUNDS))}")
    print(f"{SPREAD}added {spread(inserts)}; verdicts {spread(judged)}")
    value = statistics.median(inserts)
    shutil.rmtree(folder, ignore_errors=True)
    good = value < MOST_INSERT and statistics.median(judged) < MOST_VERDICTS
    BENCHMARK.finish(value, "s", good=good, small=small)


if __name__ == "__main__":
    main()
