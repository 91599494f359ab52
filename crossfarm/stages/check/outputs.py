"""Rows about outputs: how each one is judged, and how far it is from its reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from crossfarm.config.checks import Checks, OutputCheck
from crossfarm.errors import ConfigError, nearest
from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.check.comparison import Difference, OutputScale, Spread, channel_axis, compare
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.reference.artifact import Case, TensorFile

Row = CheckRecord | MeasurementRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputVerdict:
    """How one output is judged.

    Attributes:
        tolerance: share of the scale; 0 where only what is equal passes.
        yardstick: what differences are a share of.
    """

    tolerance: float
    yardstick: OutputScale


def judged(
    model: str, outputs: Sequence[TensorFile], checks: Checks, *, steps: Mapping[str, float]
) -> dict[str, OutputVerdict]:
    """Return output -> how it is judged: floats within the tolerance, integers and booleans exactly, or as declared.

    Args:
        model: its name, for messages.
        outputs: of the model.
        checks: what must hold.
        steps: output -> distance of neighbouring values, for those that are stored in integers.

    Raises:
        ConfigError: the declaration is about another output than there is, or about one of another shape.
    """
    names = [output.name for output in outputs]
    declared = {output.name: output for output in checks.outputs}
    for name in declared:
        if name not in names:
            raise ConfigError(
                f"model {model}: checks.outputs names {name!r}, which is no output of it{nearest(name, names)}; "
                f"outputs: {', '.join(names)}"
            )
    found = {}
    for output in outputs:
        own = declared.get(output.name, OutputCheck(name=output.name))
        usual = checks.tolerance if output.dtype.startswith("float") else 0.0
        yardstick = OutputScale(
            axis=-1 if own.axis is None else own.axis, scale=own.scale, step=steps.get(output.name, 0.0)
        )
        try:
            channel_axis(output.shape, yardstick)
        except ValueError as error:
            raise ConfigError(f"model {model}: checks.outputs: {output.name}: {error}") from None
        found[output.name] = OutputVerdict(
            tolerance=usual if own.tolerance is None else own.tolerance, yardstick=yardstick
        )
    return found


def output_records(
    name: str,
    output: Array,
    expected: Array,
    how: OutputVerdict,
    *,
    cases: Sequence[Case],
    argmax: bool,
    gates: bool = True,
    check: Callable[..., CheckRecord],
    measurement: Callable[..., MeasurementRecord],
) -> Iterator[Row]:
    """Yield the gate of one output, what is to be known about its scales, and its numbers.

    Args:
        name: of the output.
        output: of the board, shape (cases, ...).
        expected: of the reference, the same shape.
        how: it is judged.
        cases: of the reference.
        argmax: compare the argmax as well.
        gates: whether the row decides; else it only shows.
        check: makes a row of this cell.
        measurement: makes a number of this cell from name, value and unit, and `cases` where it is a share of elements.
    """
    difference = compare(output, expected, tolerance=how.tolerance, argmax=argmax, yardstick=how.yardstick)
    yield check(
        name=f"accuracy.output.{name}",
        status=("passed" if difference.within(how.tolerance) else "failed") if gates else "informative",
        value=difference.relative,
        limit=how.tolerance if gates else None,
        unit="scale",
        message=_message(difference, how) + _worst(difference, cases),
    )
    if difference.spreads:
        yield check(
            name=f"accuracy.scales.{name}",
            status="informative",
            message="; ".join(_spread_message(spread, difference.axis) for spread in difference.spreads),
        )
    yield measurement(f"accuracy.max_abs_diff.{name}", difference.relative, "scale")
    yield measurement(f"accuracy.mean_abs_diff.{name}", difference.mean_abs / difference.scale, "scale")
    yield measurement(f"accuracy.cosine.{name}", difference.cosine, "share")
    yield measurement(f"accuracy.correct_ratio.{name}", difference.correct, "share", cases=difference.elements)
    yield measurement(f"accuracy.not_finite.{name}", difference.not_finite, "count")


def _message(difference: Difference, how: OutputVerdict) -> str:
    if difference.not_finite:
        return f"{difference.not_finite} elements are NaN or infinite"
    if not how.tolerance:
        differing = f"{_counted(1 - difference.correct, difference.elements)} of the elements differ"
        return f"{differing}, by {difference.max_abs:.6g} at most; it is compared exactly"
    whose = "" if difference.channel is None else f" of channel {difference.channel} of axis {difference.axis}"
    message = (
        f"max abs diff {difference.max_abs:.2g}; at worst {difference.relative:.2g} of the scale "
        f"{difference.channel_scale:.4g}{whose} (limit {how.tolerance:g}), "
        f"mean {difference.mean_abs / difference.scale:.2g}, cosine {difference.cosine:.8f}, "
        f"{_counted(difference.correct, difference.elements)} of the elements within the limit"
    )
    if difference.argmax is not None:
        message += f", argmax equal in {_counted(difference.argmax, difference.cases)} of the cases"
    return message


def _counted(share: float, of: int) -> str:
    return f"{share:.2%} ({round(share * of)}/{of})"


def _worst(difference: Difference, cases: Sequence[Case]) -> str:
    if not difference.max_abs:
        return ""
    channel = f", channel {difference.channel}" if difference.channel is not None else ""
    return f"; worst case: {cases[difference.worst_case].name}{channel}"


def _spread_message(spread: Spread, axis: int) -> str:
    (large, largest), (small, smallest) = spread.largest, spread.smallest
    ratio = f"{largest / smallest:.2g} times: {largest:.3g} (number {large}) and {smallest:.3g} (number {small})"
    if spread.axis == axis:
        return f"scales of the channels (axis {axis}) differ by {ratio}; each is held against its own"
    return (
        f"scales along axis {spread.axis} differ by {ratio}; if its channels stand there, declare "
        f"`axis: {spread.axis}` for it under checks.outputs"
    )
