"""What page.js gets to know of the cells: the JSON document of the page, every text in it cleaned and cut."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crossfarm.reports.columns import COLUMNS
from crossfarm.reports.html.history import History, Series
from crossfarm.reports.run_view import CellOutcome
from crossfarm.reports.shown import RIGHT, cases_by_name, cases_of, shown
from crossfarm.reports.shown import label as label_of
from crossfarm.results import CheckRecord, JobRecord, MeasurementRecord, Provenance
from crossfarm.util.text import one_line, quantity

MOST_SAMPLES = 200
"""Samples of one latency that are drawn."""
MOST_DETAILS = 60
"""Lines that one check shows beside its message."""
MOST_LAYERS = 15
"""Layers that are drawn; the others are one bar together."""
_MESSAGE, _DETAIL, _COMMAND = 1000, 300, 2000
"""Characters that each of these may have."""
_LARGEST = 1e308
"""Stands for what is not finite, which JSON has no number for: it is sorted behind all others."""
_RUNGS = ("float", "quantised", "compiled", "target")
_STATES = ("failed", "error", "known failure", "not run", "skipped", "made", "passed")
_SIZES = ("program", "weights", "arena")
_WORK, _LAYER_WORK = ("work.operations", "work.bytes"), ("profile.operations", "profile.bytes")
LAYERS = "profile.layers"
"""Name of the check and of the measurement that hold the time of each layer."""


class CheckLine(NamedTuple):
    """A check, an array in the page; `details` is a place in Document.details; no `command` where it is the cell's."""

    name: str
    status: str
    value: str
    limit: str
    message: str
    note: str
    place: str
    details: int
    more: int
    command: str


class NumberLine(NamedTuple):
    """A measurement, an array in the page; `place` is a place in Document.places."""

    name: str
    text: str
    exact: str
    samples: int
    place: int


class JobLine(NamedTuple):
    """A job, an array in the page."""

    stage: str
    state: str
    seconds: str
    told: str
    log: str
    board: str
    image: str
    key: str
    command: str


class Bar(NamedTuple):
    """A part of a picture, an array in the page: name, length and the number in words."""

    name: str
    value: float
    text: str


class RoofPoint(NamedTuple):
    """What computes and moves, an array in the page: its operations a byte, operations a second and bytes a second."""

    name: str
    intensity: float
    rate: float
    traffic: float


class Rung(NamedTuple):
    """A step of the accuracy ladder, an array in the page; `share` is None for models that are not decoded."""

    name: str
    share: float | None
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellData:
    """All that the dialog of a cell shows.

    Attributes:
        id: unique in the page.
        label: what its times are where they are not of silicon: `emulated`, `simulated`, `estimated`.
        sort: a value for each of COLUMNS; None where the text of the column is good enough, or there is no value.
        latency: samples in ns.
        layers: the slowest first.
        roof: the whole run, then its layers; empty where work or time is not known.
    """

    id: str
    model: str
    target: str
    variant: str
    state: str
    cause: str
    board: str
    label: str
    command: str
    sort: tuple[float | None, ...]
    checks: tuple[CheckLine, ...]
    numbers: tuple[NumberLine, ...]
    jobs: tuple[JobLine, ...]
    latency: tuple[float, ...]
    latency_text: str
    sizes: tuple[Bar, ...]
    ladder: tuple[Rung, ...]
    layers: tuple[Bar, ...]
    roof: tuple[RoofPoint, ...]
    history: tuple[Series, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """The JSON document.

    Attributes:
        cells: in the order of the table.
        places: where numbers were measured, as pairs of what and which.
        details: lines of checks; cells that were told the same share them.
        runs: id and time of the start of the runs that histories have points of.
    """

    cells: tuple[CellData, ...]
    places: tuple[tuple[tuple[str, str], ...], ...]
    details: tuple[tuple[str, ...], ...]
    runs: tuple[tuple[str, str], ...]


class DocumentBuilder:
    """Makes the document; what several cells say is in it once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._places: dict[Provenance, int] = {}
        self._details: dict[tuple[str, ...], int] = {}
        self._ids: set[str] = set()

    def build(self, cells: Iterable[CellOutcome]) -> Document:
        """Return the document of some cells."""
        made = tuple(self._cell(cell) for cell in cells)
        places, details = tuple(map(place, self._places)), tuple(self._details)
        return Document(cells=made, places=places, details=details, runs=self._history.runs)

    def _cell(self, cell: CellOutcome) -> CellData:
        found = cell.provenance
        timing = found.timing if found is not None else None
        label = "" if found is None or found.timing == "silicon" else found.timing
        latency = cell.measurements.get("latency.p50")
        command = one_line(cell.command or "", _COMMAND)
        cases = cases_by_name(cell.checks)
        return CellData(
            id=self._unique(one_line(cell.id)),
            model=one_line(cell.model),
            target=one_line(cell.target),
            variant=one_line(cell.variant),
            state=cell.state,
            cause=one_line(cell.cause, _MESSAGE),
            board=one_line(found.board) if found else "",
            label=label,
            command=command,
            sort=tuple(sort_value(cell, column) for column in COLUMNS),
            checks=tuple(self._check(check, timing, command) for check in cell.checks),
            numbers=tuple(self._number(item, cases) for item in cell.measurements.values()),
            jobs=tuple(_job(job, command) for job in cell.jobs),
            latency=thinned(latency.samples) if latency else (),
            latency_text=shown(latency.value, latency.unit, label=label) if latency else "",
            sizes=tuple(
                Bar(name, item.value, quantity(item.value, item.unit))
                for name in _SIZES
                if (item := cell.measurements.get(name)) and math.isfinite(item.value)
            ),
            ladder=ladder(cell, cases),
            layers=layers(cell, label),
            roof=roof(cell),
            history=self._history.by_cell.get(cell.id, ()),
        )

    def _unique(self, name: str) -> str:
        """Number the later ones of names that differ only in what was cleaned away."""
        found, number = name, 1
        while found in self._ids:
            number += 1
            found = f"{name} ({number})"
        self._ids.add(found)
        return found

    def _check(self, check: CheckRecord, timing: str | None, command: str) -> CheckLine:
        lines = tuple(one_line(line, _DETAIL) for line in check.details[:MOST_DETAILS])
        own = one_line(check.command or "", _COMMAND)
        timed = label_of(check.name, check.unit, timing)
        return CheckLine(
            one_line(check.name),
            check.status,
            "" if check.value is None else shown(check.value, check.unit, cases=check.cases, label=timed),
            "" if check.limit is None else shown(check.limit, check.unit),
            one_line(check.message, _MESSAGE),
            one_line(check.note or ""),
            f"{one_line(check.file)}:{check.line or 1}" if check.file else "",
            self._details.setdefault(lines, len(self._details)) if lines else -1,
            len(check.details) - len(lines),
            "" if own == command else own,
        )

    def _number(self, item: MeasurementRecord, cases: Mapping[str, int]) -> NumberLine:
        where = self._places.setdefault(item.provenance, len(self._places))
        timed = label_of(item.name, item.unit, item.provenance.timing)
        text = shown(item.value, item.unit, cases=item.cases or cases_of(item.name, cases), label=timed)
        exact = f"{item.value!r} {one_line(item.unit)}"
        return NumberLine(one_line(item.name), text, exact, len(item.samples), where)


def place(found: Provenance) -> tuple[tuple[str, str], ...]:
    """Return what is known about where a number was measured, as pairs of what and which."""
    pairs = ((field.name, getattr(found, field.name)) for field in dataclasses.fields(found))
    known = ((name, value) for name, value in pairs if value is not None)
    return tuple(
        (
            name.replace("_", " ").replace("tvm", "TVM").replace("cpu", "CPU"),
            quantity(value, "celsius") if name == "temperature" else one_line(str(value)),
        )
        for name, value in known
    )


def thinned(samples: Sequence[float]) -> tuple[float, ...]:
    """Return at most MOST_SAMPLES finite samples, spread evenly over the sorted ones, smallest and largest included."""
    finite = sorted(sample for sample in samples if math.isfinite(sample))
    if len(finite) <= MOST_SAMPLES:
        return tuple(finite)
    step = (len(finite) - 1) / (MOST_SAMPLES - 1)
    return tuple(finite[round(number * step)] for number in range(MOST_SAMPLES))


def ladder(cell: CellOutcome, cases: Mapping[str, int]) -> tuple[Rung, ...]:
    """Return the rungs of the accuracy ladder that were recorded: right answers, or where no labels are, agreement."""
    numbers = cell.measurements
    has_labels = any(f"ladder.{name}.right" in numbers for name in _RUNGS)
    kind, words = ("right", "right") if has_labels else ("agreement", "decided as on the first rung")
    rungs: list[Rung] = []
    for name in _RUNGS:
        share, difference = numbers.get(f"ladder.{name}.{kind}"), numbers.get(f"ladder.{name}.difference")
        if share is None and difference is None:
            continue
        is_known = share is not None and math.isfinite(share.value)
        parts = (
            [f"{shown(share.value, share.unit, cases=cases_of(share.name, cases))} {words}"]
            if share is not None
            else []
        )
        if difference is not None and rungs:
            parts.append(f"furthest {quantity(difference.value, difference.unit)} of the scale from the first rung")
        rungs.append(Rung(name, share.value if share is not None and is_known else None, ", ".join(parts)))
    return tuple(rungs)


def layers(cell: CellOutcome, label: str) -> tuple[Bar, ...]:
    """Return the time of each layer, the slowest first, and all behind MOST_LAYERS as one."""
    names = next((check.operators for check in cell.checks if check.name == LAYERS), ())
    times = cell.measurements[LAYERS].samples if LAYERS in cell.measurements else ()
    pairs = sorted(zip(names, times, strict=False), key=lambda pair: -pair[1])
    found = [(one_line(name, 200), time) for name, time in pairs if math.isfinite(time)]
    total = sum(time for _, time in found) or 1.0
    rest = found[MOST_LAYERS:]
    bars = found[:MOST_LAYERS] + ([(f"{len(rest)} more", sum(time for _, time in rest))] if rest else [])
    return tuple(Bar(name, time, f"{shown(time, 'ns', label=label)}, {time / total:.1%}") for name, time in bars)


def roof(cell: CellOutcome) -> tuple[RoofPoint, ...]:
    """Return where a whole run, and each layer whose time was taken, stand in a roofline; the run first.

    Source: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore
    architectures", Communications of the ACM 52 (2009). The bytes are those of the tensors that are read and written,
    so they are an estimate from below of what passes between memory and processor, or above where a cache holds them.
    """
    numbers = cell.measurements
    found = [
        _roof_point("whole run", *(numbers[name].value if name in numbers else 0.0 for name in (*_WORK, "latency.p50")))
    ]
    names = next((check.operators for check in cell.checks if check.name == LAYERS), ())
    samples = [numbers[name].samples if name in numbers else () for name in (*_LAYER_WORK, LAYERS)]
    found += [_roof_point(one_line(name, 200), *work) for name, *work in zip(names, *samples, strict=False)]
    known = tuple(point for point in found if point is not None)
    return known if known and found[0] is not None else ()


def _roof_point(name: str, operations: float, moved: float, ns: float) -> RoofPoint | None:
    if not all(math.isfinite(value) and value > 0 for value in (operations, moved, ns)):
        return None
    return RoofPoint(name, operations / moved, operations / ns * 1e9, moved / ns * 1e9)


def sort_value(cell: CellOutcome, column: str) -> float | None:
    """Return what a column is sorted by; None where its text is good enough, or where the cell has nothing there."""
    if column == "verdict":
        return float(worst_first(cell))
    if column == "max diff":
        values = [check.value for check in cell.checks if check.name.startswith("accuracy.output.")]
        return max((_finite(value) for value in values if value is not None), default=None)
    name = {
        "quantising": "ladder.quantised.difference",
        "p50": "latency.p50",
        "program": "program",
        "weights": "weights",
        "memory": "arena",
    }.get(column)
    if column == "right":
        shares = [check.value for check in cell.checks if check.name.startswith(RIGHT)]
        return next((_finite(value) for value in shares if value is not None), None)
    found = cell.measurements.get(name) if name else None
    return None if found is None else _finite(found.value)


def worst_first(cell: CellOutcome) -> int:
    """Return the rank of a cell's state: what needs a look has a small one."""
    return _STATES.index(cell.state) if cell.state in _STATES else 0


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _LARGEST


def _job(job: JobRecord, command: str) -> JobLine:
    flaky = f"; before that: {'; '.join(job.flaky)}" if job.flaky else ""
    own = one_line(job.command or "", _COMMAND)
    return JobLine(
        one_line(job.stage),
        job.state,
        quantity(job.seconds, "s"),
        one_line((job.cause or job.reason or "") + flaky, _MESSAGE),
        one_line(job.log or ""),
        one_line(job.board or ""),
        one_line(job.image or ""),
        one_line(job.key or ""),
        "" if own == command else own,
    )
