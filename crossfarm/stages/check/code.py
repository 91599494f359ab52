"""What of a model has no code of ours: functions without a schedule, and operators of a quantised model in float32."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Protocol

from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.measure.artifact import BundleManifest, ProfileFile

UNSCHEDULED, LEFT_IN_FLOAT = "code.unscheduled", "code.left_in_float"
"""Names of the rows, and of the measurement with the share of the time."""


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
