"""Where the time of a model goes as far as it was taken, and what of it has no code of ours.

That is functions without a schedule, and operators of a quantised model in float32.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.measure.artifact import BundleManifest, ProfileFile

UNSCHEDULED, LEFT_IN_FLOAT, LAYERS = "code.unscheduled", "code.left_in_float", "profile.layers"
"""Names of the rows, and of the measurements with the share of the time and with the time of each function."""
WORK = (("work.operations", "count"), ("work.bytes", "bytes"))
LAYER_WORK = (("profile.operations", "count"), ("profile.bytes", "bytes"))
"""Names and units of what a run computes and moves, in all and function by function."""
_NAMED_LAYERS, _MOST_LAYERS = 3, 200
"""Functions that a message names, and that a row holds: the slowest."""


class _Check(Protocol):
    def __call__(
        self, *, name: str, status: str, value: float | None, unit: str, message: str, operators: tuple[str, ...]
    ) -> CheckRecord:
        """Return a row of the cell."""


class _Measurement(Protocol):
    def __call__(self, name: str, value: float, unit: str, samples: Sequence[float] = ()) -> MeasurementRecord:
        """Return a number of the cell."""


def code_records(
    bundle: BundleManifest,
    *,
    profile: ProfileFile | None,
    timing: str,
    check: _Check,
    measurement: _Measurement,
) -> Iterator[CheckRecord | MeasurementRecord]:
    """Yield rows that gate nothing, and only where there is something to say.

    Args:
        bundle: whose functions and operators they are.
        profile: the times of all calls; None where they were not taken.
        timing: `silicon`, or what else the times are.
        check: makes a row.
        measurement: makes a number.
    """
    if profile is not None:
        yield from _layer_records(profile, bundle.work, timing=timing, check=check, measurement=measurement)
    yield from _work_records(bundle.work, measurement=measurement)
    if bundle.unscheduled:
        shares = unscheduled_shares(profile, bundle.unscheduled) if profile is not None else ()
        share = statistics.median(shares) if shares else None
        yield check(
            name=UNSCHEDULED,
            status="informative",
            value=share,
            unit="share",
            message=_message(bundle.unscheduled, share, timing),
            operators=bundle.unscheduled,
        )
        if share is not None:
            yield measurement(UNSCHEDULED, share, "share", shares)
    if bundle.left_in_float:
        number = sum(bundle.left_in_float.values())
        names = ", ".join(name if count == 1 else f"{name} ({count})" for name, count in bundle.left_in_float.items())
        yield check(
            name=LEFT_IN_FLOAT,
            status="informative",
            value=float(number),
            unit="count",
            message=f"{_operators(number)} of a quantised model computed in float32: {names}",
            operators=tuple(bundle.left_in_float),
        )


def layer_times(profile: ProfileFile) -> dict[str, float]:
    """Return the ns that all calls of each function took in a run, the median of the runs; the slowest first."""
    times: dict[str, float] = {}
    for call in profile.calls:
        times[call.name] = times.get(call.name, 0.0) + (statistics.median(call.ns) if call.ns else 0.0)
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _work_records(work: Mapping[str, tuple[int, int]], *, measurement: _Measurement) -> Iterator[MeasurementRecord]:
    """Yield what a run computes and moves, as far as it is known."""
    for at, (name, unit) in enumerate(WORK):
        total = sum(found[at] for found in work.values())
        if total:
            yield measurement(name, total, unit)


def _layer_records(
    profile: ProfileFile,
    work: Mapping[str, tuple[int, int]],
    *,
    timing: str,
    check: _Check,
    measurement: _Measurement,
) -> Iterator[CheckRecord | MeasurementRecord]:
    """Yield a row that names the functions, the slowest first, and numbers whose samples are their times and work."""
    times = layer_times(profile)
    total = sum(times.values())
    if total <= 0:
        return
    slowest = dict(list(times.items())[:_MOST_LAYERS])
    named = ", ".join(f"{name} {time / total:.1%}" for name, time in list(slowest.items())[:_NAMED_LAYERS])
    label = "" if timing == "silicon" else f" ({timing})"
    yield check(
        name=LAYERS,
        status="informative",
        value=total,
        unit="ns",
        message=f"most of the time of {_functions(len(times))} goes into {named}{label}",
        operators=tuple(slowest),
    )
    yield measurement(LAYERS, total, "ns", tuple(slowest.values()))
    for at, (name, unit) in enumerate(LAYER_WORK):
        samples = tuple(float(work[layer][at]) if layer in work else 0.0 for layer in slowest)
        if any(samples):
            yield measurement(name, sum(samples), unit, samples)


def _functions(number: int) -> str:
    return "1 function" if number == 1 else f"{number} functions"


def unscheduled_shares(profile: ProfileFile, functions: Sequence[str]) -> tuple[float, ...]:
    """Return the share of the time, 0 to 1, that calls of some functions took in each profiled run.

    A run in which the clock saw no time at all is left out.
    """
    left = frozenset(functions)
    runs = zip(*(call.ns for call in profile.calls), strict=True)
    parts = [call.name in left for call in profile.calls]
    found = []
    for run in runs:
        total = sum(run)
        if total > 0:
            found.append(sum(time for time, is_left in zip(run, parts, strict=True) if is_left) / total)
    return tuple(found)


def _message(functions: Sequence[str], share: float | None, timing: str) -> str:
    text = f"{_operators(len(functions))} unscheduled: {', '.join(functions)}"
    if share is None:
        return f"{text}; their time was not taken"
    label = "" if timing == "silicon" else f" ({timing})"
    return f"{text}; {share * 100:.1f} % of the time{label}"


def _operators(number: int) -> str:
    return "1 operator" if number == 1 else f"{number} operators"
