"""Rows about accelerators: whether the simulator answers as the functional model does, cycles, and the partition."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from crossfarm.boards.result import SimulatedRuns
from crossfarm.bundles.accelerator import AcceleratorReport, Estimate, LeftOver, Partition
from crossfarm.results import CheckRecord, MeasurementRecord
from crossfarm.stages.check.comparison import OutputScale, compare
from crossfarm.stages.data.tensors import Array

Row = CheckRecord | MeasurementRecord
_MOST_LEFT_OVER = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedOutput:
    """An output of the cases that a slow simulator ran.

    Attributes:
        name: of the output.
        simulated: of the simulator, shape (simulated cases, ...).
        functional: of the functional model for the same cases.
    """

    name: str
    simulated: Array
    functional: Array

    @functools.cached_property  # the gate, the cycles and the message each ask for it
    def equal_cases(self) -> list[bool]:
        """Return for each case whether the two are equal, bit for bit."""
        pairs = zip(self.simulated, self.functional, strict=True)
        return [one.tobytes() == other.tobytes() for one, other in pairs]


def simulator_records(
    outputs: Sequence[SimulatedOutput],
    *,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield the gate: the simulator must equal the functional model bit for bit; and how far each output is from it."""
    equal = [all(cases) for cases in zip(*(output.equal_cases for output in outputs), strict=True)]
    good, count = sum(equal), len(equal)
    yield check(
        name="simulator.equal",
        status="passed" if good == count else "failed",
        value=good / count,
        limit=1.0,
        unit="share",
        cases=count,
        message=f"the simulator equals the functional model bit for bit in {good} of {count} cases"
        + ("" if good == count else f"; {_first_difference(outputs)}; its cycles are not valid and not shown"),
    )
    for output in outputs:
        difference = compare(output.simulated, output.functional, tolerance=0.0, yardstick=OutputScale())
        yield measurement(f"simulator.max_abs_diff.{output.name}", difference.max_abs, "value")
        yield measurement(f"simulator.mean_abs_diff.{output.name}", difference.mean_abs, "value")
        yield measurement(f"simulator.correct_ratio.{output.name}", difference.correct, "share")


def is_simulator_right(outputs: Sequence[SimulatedOutput]) -> bool:
    """Return whether every output of every simulated case is equal."""
    return all(all(output.equal_cases) for output in outputs)


def _first_difference(outputs: Sequence[SimulatedOutput]) -> str:
    for output in outputs:
        for case, is_equal in enumerate(output.equal_cases):
            if not is_equal:
                one, other = np.ravel(output.simulated[case]), np.ravel(output.functional[case])
                place = int(np.argmax(one != other))
                return (
                    f"first in case {case}, output {output.name}, element {place}: {one[place]:g} instead of "
                    f"{other[place]:g}"
                )
    return ""


def cycle_records(
    runs: SimulatedRuns | None,
    estimate: Estimate | None,
    *,
    budget: int | None,
    check: Callable[..., CheckRecord],
    measurement: Callable[..., MeasurementRecord],
) -> Iterator[Row]:
    """Yield the cycles of a run, simulated where a simulator counted them and else estimated, held against a budget.

    Args:
        runs: of a simulator that was right; None where there is none, or where it was not.
        estimate: None where nothing estimates them.
        budget: most cycles; None where none is declared.
        check: makes a row of this cell.
        measurement: makes a number of this cell from name, value, unit and samples.
    """
    if estimate is not None:
        yield measurement("cycles.estimated", estimate.cycles, "cycles")
    if runs is not None:
        worst, words, note = max(runs.cycles), f"simulated, {len(runs.cycles)} cases; {runs.contains}", "simulated"
        yield measurement("cycles.simulated", worst, "cycles", runs.cycles)
        if estimate is not None:
            words += f"; the estimate is {estimate.cycles:,} ({estimate.cycles / worst - 1:+.2%})"
    elif estimate is not None:
        worst, note = estimate.cycles, f"estimate, {estimate.accuracy}"
        words = f"{note}; {estimate.contains}"
    elif budget is not None:
        yield check(
            name="cycles",
            status="failed",
            limit=float(budget),
            unit="cycles",
            message=f"a budget of {budget:,} cycles is declared, and no valid cycles are known",
        )
        return
    else:
        return
    status = "informative" if budget is None else "passed" if worst <= budget else "failed"
    limit = "" if budget is None else f" (budget {budget:,})"
    yield check(
        name="cycles",
        status=status,
        value=float(worst),
        limit=None if budget is None else float(budget),
        unit="cycles",
        message=f"{worst:,} cycles{limit}; {words}",
        note=note,
    )


def report_records(
    report: AcceleratorReport,
    *,
    cards: Mapping[str, Sequence[str]] = MappingProxyType({}),
    board: str = "",
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    """Yield what the compiler says: the partition, its numbers and its notes.

    Args:
        report: accelerator.json.
        cards: name of a board -> the cards that it holds.
        board: that it was measured on.
        check: makes a row of this cell.
        measurement: makes a number of this cell.
    """
    if report.partition is not None:
        yield from _partition_records(report.partition, check=check, measurement=measurement)
    for quantity in report.quantities:
        yield measurement(f"accelerator.{quantity.name}", quantity.value, quantity.unit)
    notes = [*report.notes, *_card_notes(report, cards, board)]
    if report.quantities or notes:
        numbers = "; ".join(f"{item.name} {item.value:,.6g} {item.unit}" for item in report.quantities)
        yield check(
            name="accelerator",
            status="informative",
            message="; ".join(text for text in (numbers, *notes) if text),
        )


def _card_notes(report: AcceleratorReport, cards: Mapping[str, Sequence[str]], board: str) -> Iterator[str]:
    """Yield what becomes of that which was built for a card."""
    if report.card is None:
        return
    if report.card in cards.get(board, ()):
        yield f"ran on the {report.card} card of {board}, which answers its first input as the functional model does"
        return
    boards = sorted(name for name, held in cards.items() if report.card in held)
    why = f"no board declares a {report.card} card"
    if boards:
        why = f"{', '.join(boards)} declares a {report.card} card; name the target among the board's to have it run"
    yield f"{report.card_files} built, not run: {why}"


def _partition_records(
    partition: Partition,
    *,
    check: Callable[..., CheckRecord],
    measurement: Callable[[str, float, str], MeasurementRecord],
) -> Iterator[Row]:
    here, rest = partition.accelerator, partition.cpu
    total = here.macs + rest.macs
    share = here.macs / total if total else 0.0
    left = "; the CPU's part ran in ONNX Runtime on this host, and its time is in no figure" if rest.operators else ""
    yield check(
        name="partition",
        status="informative",
        value=share,
        unit="share",
        message=f"{here.operators} of {here.operators + rest.operators} operators and {share:.1%} of "
        f"{total:,} MACs on the accelerator ({here.parameter_bytes:,} B of parameters, {rest.parameter_bytes:,} B on "
        f"the CPU); {partition.crossings} tensors cross, {partition.crossing_bytes:,} B{left}",
        details=tuple(map(_left_over, partition.left_over[:_MOST_LEFT_OVER])),
        operators=tuple(item.node for item in partition.left_over[:_MOST_LEFT_OVER]),
    )
    yield measurement("partition.macs", share, "share")
    yield measurement("partition.crossings", partition.crossings, "count")


def _left_over(item: LeftOver) -> str:
    return f"{item.operator} {item.node}: {item.rule}"


def simulated_outputs(simulated: Mapping[str, Array], functional: Mapping[str, Array]) -> list[SimulatedOutput]:
    """Pair the outputs of a simulator with those of the functional model for the same cases."""
    return [
        SimulatedOutput(name=name, simulated=array, functional=functional[name][: len(array)])
        for name, array in simulated.items()
    ]
