"""Records that the tests of the reports share: a run as it is, and any run that could be."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from hypothesis import strategies as st

from crossfarm.results import (
    CheckRecord,
    EndRecord,
    JobRecord,
    MeasurementRecord,
    Provenance,
    Record,
    RunRecord,
)

EMULATED = Provenance(board="local", timing="emulated", emulator="qemu-arm-static 7.2.11", tvm_version="0.27.0")
SILICON = Provenance(board="local", timing="silicon", cpu_model="Some CPU | 2 cores", governor="performance")
GOOD, BAD, LOST, LEFT = "x86_64-mnist-float32", "armv7-mnist-float32", "armv7-vad-float32", "armv7-vad-int8"


def parse(document: str) -> ET.Element:
    """Return the root of an XML document that a test made itself."""
    return ET.fromstring(document)  # noqa: S314


def run_record(**changes: Any) -> RunRecord:
    """Return the start of a run over four cells."""
    fields: dict[str, Any] = {
        "run": "r1",
        "started": "2026-11-21T12:00:00+02:00",
        "command": "inv pipeline",
        "version": "1.0",
        "host": "builder x86_64",
        "tools": {"apache-tvm": "0.27.0"},
        "cells": (GOOD, BAD, LOST, LEFT),
    }
    return RunRecord(**(fields | changes))


def job(stage: str, cell: str, state: str = "run", **changes: Any) -> JobRecord:
    """Return the record of a job of a cell."""
    target, model, variant = cell.split("-")
    fields: dict[str, Any] = {
        "job": f"{stage}:{cell}",
        "stage": stage,
        "cell": cell,
        "target": target,
        "model": model,
        "variant": variant,
        "state": state,
        "seconds": 1.5,
        "file": "models.yaml",
        "line": 12,
        "command": f"./inv pipeline --only {cell}",
    }
    return JobRecord(**(fields | changes))


def number(cell: str, name: str, value: float, unit: str, provenance: Provenance) -> MeasurementRecord:
    """Return a measurement of a cell."""
    return MeasurementRecord(cell=cell, name=name, value=value, unit=unit, provenance=provenance)


def check(cell: str, name: str, status: str, **changes: Any) -> CheckRecord:
    """Return a check of a cell."""
    fields: dict[str, Any] = {"cell": cell, "name": name, "status": status, "message": f"{name} {status}"}
    return CheckRecord(**(fields | changes))


def whole_run() -> list[Record]:
    """Return a run with a good cell, a wrong one, one that the infrastructure lost and one that was skipped."""
    answers = ("7.png: 7 0.99 - right", "3.png: 8 0.61 - WRONG, it is 3")
    return [
        run_record(),
        JobRecord(job="prepare:mnist", stage="prepare", model="mnist", state="hit", seconds=0.0),
        job("compile", GOOD),
        job("measure", GOOD),
        check(GOOD, "accuracy.output.y", "passed", value=3.1e-7, limit=1e-4, unit="scale"),
        check(GOOD, "accuracy.top1.digits", "informative", value=0.5, unit="share", details=answers),
        check(GOOD, "latency.p50", "informative", value=12.34e6, unit="ns"),
        number(GOOD, "latency.p50", 12.34e6, "ns", SILICON),
        number(GOOD, "program", 317_440, "bytes", SILICON),
        job("compile", BAD),
        job("measure", BAD),
        check(BAD, "accuracy.output.y", "failed", value=float("nan"), limit=1e-4, unit="scale", message="3 are NaN"),
        number(BAD, "latency.p50", 98.7e6, "ns", EMULATED),
        job("compile", LOST, "failed", cause="out of memory", fault="infrastructure", log="out/logs/1.log"),
        job("measure", LOST, "cancelled", cause="compile failed"),
        job("compile", LEFT, "skipped", reason="no int8 for 32-bit ARM"),
        EndRecord(exit_code=1, seconds=61.0),
    ]


_text = st.text(max_size=30) | st.sampled_from(["|", "a|b\nc", "`", "```", "<script>", "]]>", "\x00\x1b[2J", "\ud7ff￿"])
_cell = st.sampled_from([GOOD, BAD, LOST, LEFT, "odd", "a-b", ""]) | _text
_provenance = st.builds(Provenance, board=_text, timing=st.sampled_from(["silicon", "emulated", "simulated"]))
_stage = st.sampled_from(["compile", "bundle", "measure", "check"])


@st.composite
def _job(draw: st.DrawFn) -> JobRecord:
    stage = draw(_stage | _text)
    cell = draw(st.none() | _cell)
    return draw(
        st.builds(
            JobRecord,
            job=st.just(f"{stage}:{cell}"),
            stage=st.just(stage),
            cell=st.just(cell),
            model=st.none() | _text,
            target=st.none() | _text,
            variant=st.none() | st.sampled_from(["float32", "int8"]) | _text,
            state=st.sampled_from(["run", "hit", "failed", "skipped", "cancelled"]),
            seconds=st.floats(),
            cause=st.none() | _text,
            reason=st.none() | _text,
            log=st.none() | _text,
            command=st.none() | _text,
            fault=st.sampled_from([None, "product", "infrastructure"]),
            file=st.none() | _text,
            line=st.none() | st.integers(1, 10_000),
        )
    )


any_records: st.SearchStrategy[list[Record]] = st.lists(
    st.one_of(
        _job(),
        st.builds(
            CheckRecord,
            cell=_cell,
            name=st.sampled_from(["accuracy.output.y", "accuracy.top1.d", "text.d", "compile"]) | _text,
            message=_text,
            details=st.lists(_text, max_size=3).map(tuple),
            unit=st.sampled_from([None, "ns", "share", "scale", "furlong"]),
            file=st.none() | _text,
        ),
        st.builds(
            MeasurementRecord,
            cell=_cell,
            name=st.sampled_from(["latency.p50", "program", "weights"]) | _text,
            unit=st.sampled_from(["ns", "bytes", "count", "s", "celsius"]),
            provenance=_provenance,
        ),
        st.builds(EndRecord),
        st.builds(
            RunRecord,
            run=_text,
            command=_text,
            host=_text,
            started=_text | st.datetimes().map(lambda moment: moment.isoformat()),
            tools=st.dictionaries(_text, _text, max_size=2),
            cells=st.lists(_cell, max_size=3).map(tuple),
            jobs=st.lists(st.tuples(_stage, _cell).map(":".join), max_size=5).map(tuple),
        ),
    ),
    max_size=15,
)
"""Any records in any order, with strings that no report must trip over."""
