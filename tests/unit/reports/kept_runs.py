"""Runs that the tests of the history and of the verdicts share."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from crossfarm.reports.history.kept_run import KeptCell, KeptNumber, KeptRun
from crossfarm.results import EndRecord, MeasurementRecord, Provenance, Record
from tests.unit.reports.records import check, job, run_record

SILICON = Provenance(board="pi-1", timing="silicon", cpu_model="Cortex-A53", governor="performance", temperature=51.5)


def latencies(seed: int, *, median: float = 1e6, cv: float = 0.02, count: int = 30) -> tuple[float, ...]:
    """Return latencies in ns of a program, normally distributed."""
    source = random.Random(seed)
    return tuple(max(1.0, source.gauss(median, cv * median)) for _ in range(count))


def records(
    run: str,
    *cells: str,
    started: str = "2026-11-21T12:00:00+00:00",
    samples: Sequence[float] = (),
    ends: bool = True,
    host: str = "builder x86_64",
    provenance: Provenance = SILICON,
) -> list[Record]:
    """Return the records of a run over cells, each with a latency, its size and a check."""
    times = tuple(samples) or latencies(1)
    found: list[Record] = [run_record(run=run, started=started, cells=cells, host=host)]
    for cell in cells:
        found += [
            job("compile", cell, seconds=3.0, key="c" * 64),
            job("bundle", cell, key="b" * 64),
            job("measure", cell, board="pi-1"),
            check(cell, "accuracy.output.y", "passed", value=3.1e-7, limit=1e-4, unit="scale", cases=10),
            MeasurementRecord(
                cell=cell,
                name="latency.p50",
                value=sorted(times)[len(times) // 2],
                unit="ns",
                samples=times,
                provenance=provenance,
            ),
            MeasurementRecord(cell=cell, name="program", value=317_440.0, unit="bytes", provenance=provenance),
        ]
    return [*found, EndRecord(exit_code=0, seconds=60.0)] if ends else found


def cell(name: str = "aarch64-mnist-float32", **changes: Any) -> KeptCell:
    """Return a cell that passed, with changes; `numbers` may give values by name, or KeptNumbers."""
    target, model, variant = name.split("-")
    fields: dict[str, Any] = {
        "cell": name,
        "target": target,
        "model": model,
        "variant": variant,
        "state": "passed",
        "cause": "",
        "board": "pi-1",
        "timing": "silicon",
        "bundle": "b" * 64,
        "numbers": {},
    }
    fields |= changes
    fields["numbers"] = _numbers(fields["numbers"])
    return KeptCell(**fields)


def _numbers(given: Mapping[str, Any]) -> Mapping[str, KeptNumber]:
    return {
        name: value if isinstance(value, KeptNumber) else KeptNumber(name=name, value=value, unit="bytes")
        for name, value in given.items()
    }


def latency(samples: Sequence[float]) -> Mapping[str, KeptNumber]:
    """Return the numbers of a cell that was timed."""
    middle = sorted(samples)[len(samples) // 2]
    return {"latency.p50": KeptNumber(name="latency.p50", value=middle, unit="ns", samples=tuple(samples))}


def kept(run: str, *cells: KeptCell, **changes: Any) -> KeptRun:
    """Return a run with changes."""
    fields: dict[str, Any] = {
        "run": run,
        "position": 1000.0,
        "started": "2026-11-21T12:00:00+00:00",
        "command": "./inv pipeline",
        "version": "1.0",
        "tools": "{}",
        "git_commit": "a" * 40,
        "host": "builder x86_64",
        "exit_code": 0,
        "seconds": 60.0,
        "cells": cells,
    }
    return KeptRun(**(fields | changes))
