"""Rows of accelerators: the simulator is a gate, cycles count where it is right, budgets hold, partitions are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossfarm.boards.result import SimulatedRuns
from crossfarm.bundles.accelerator import AcceleratorReport, Estimate, LeftOver, Part, Partition, Quantity
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.accelerators import (
    cycle_records,
    is_simulator_right,
    report_records,
    simulated_outputs,
    simulator_records,
)

RUNS = SimulatedRuns(cycles=(900, 1000), contains="computation alone", outputs=())
ESTIMATE = Estimate(cycles=1010, contains="all", accuracy="within 15 % of published figures")


def _check(**fields: Any) -> CheckRecord:
    return CheckRecord(cell="t-m-int8", **fields)


def _measurement(
    name: str, value: float, unit: str, samples: tuple[float, ...] = (), *, cases: int | None = None
) -> MeasurementRecord:
    return MeasurementRecord(
        cell="t-m-int8",
        name=name,
        value=float(value),
        unit=unit,
        samples=tuple(map(float, samples)),
        provenance=Provenance(board="local", timing="simulated"),
        cases=cases,
    )


def _rows(records: Any) -> dict[str, Any]:
    return {record.name: record for record in records}


def _outputs(*, wrong: float | None = None) -> Any:
    functional = {"y": np.arange(12, dtype=np.float32).reshape(3, 4)}
    simulated = {"y": functional["y"][:2].copy()}
    if wrong is not None:
        simulated["y"][1, 2] = wrong
    return simulated_outputs(simulated, functional)


def test_a_simulator_that_equals_the_functional_model_passes_with_its_counts() -> None:
    rows = _rows(simulator_records(_outputs(), check=_check, measurement=_measurement))
    equal = rows["simulator.equal"]
    assert (equal.status, equal.value, equal.cases) == ("passed", 1.0, 2)
    assert rows["simulator.max_abs_diff.y"].value == 0.0
    assert rows["simulator.correct_ratio.y"].value == 1.0
    assert is_simulator_right(_outputs())


@pytest.mark.parametrize("wrong", [6.5, -0.0, np.nan])
def test_one_bit_is_enough_to_fail_and_the_first_difference_is_named(wrong: float) -> None:
    outputs = _outputs(wrong=wrong)
    row = _rows(simulator_records(outputs, check=_check, measurement=_measurement))["simulator.equal"]
    assert (row.status, row.value) == ("failed", 0.5)
    assert "first in case 1, output y, element 2" in row.message
    assert "cycles are not valid and not shown" in row.message
    assert not is_simulator_right(outputs)


def test_zero_of_another_sign_is_another_answer() -> None:
    functional = {"y": np.zeros((1, 2), np.float32)}
    assert not is_simulator_right(simulated_outputs({"y": -functional["y"]}, functional))


@pytest.mark.parametrize(("budget", "status"), [(None, "informative"), (1000, "passed"), (999, "failed")])
def test_simulated_cycles_are_held_against_the_budget(budget: int | None, status: str) -> None:
    rows = _rows(cycle_records(RUNS, ESTIMATE, budget=budget, check=_check, measurement=_measurement))
    assert (rows["cycles"].status, rows["cycles"].value, rows["cycles"].note) == (status, 1000.0, "simulated")
    assert "computation alone" in rows["cycles"].message
    assert "the estimate is 1,010 (+1.00%)" in rows["cycles"].message
    assert rows["cycles.simulated"].samples == (900.0, 1000.0)
    assert rows["cycles.estimated"].value == 1010.0


def test_estimated_cycles_say_how_far_they_may_be_off_and_gate_too() -> None:
    row = _rows(cycle_records(None, ESTIMATE, budget=1000, check=_check, measurement=_measurement))["cycles"]
    assert row.status == "failed"
    assert row.note == "estimate, within 15 % of published figures"


def test_a_budget_without_valid_cycles_fails() -> None:
    row = _rows(cycle_records(None, None, budget=1000, check=_check, measurement=_measurement))["cycles"]
    assert (row.status, row.value) == ("failed", None)
    assert "no valid cycles are known" in row.message


def test_without_cycles_and_budget_nothing_is_said() -> None:
    assert list(cycle_records(None, None, budget=None, check=_check, measurement=_measurement)) == []


def test_the_partition_says_what_is_left_over_and_which_rule_it_broke() -> None:
    partition = Partition(
        accelerator=Part(operators=3, macs=900, parameter_bytes=10),
        cpu=Part(operators=1, macs=100, parameter_bytes=2),
        crossings=2,
        crossing_bytes=64,
        left_over=(LeftOver(operator="Softmax", node="s", rule="no such operator"),),
    )
    report = AcceleratorReport(
        partition=partition, quantities=(Quantity(name="sram", value=1024, unit="bytes"),), notes=("built, not run",)
    )
    rows = _rows(report_records(report, check=_check, measurement=_measurement))
    assert rows["partition"].value == 0.9
    assert rows["partition"].details == ("Softmax s: no such operator",)
    assert "3 of 4 operators and 900 of 1,000 MACs (90.0%)" in rows["partition"].message
    assert rows["accelerator"].message == "sram 1,024 bytes; built, not run"
    assert rows["accelerator.sram"].value == 1024
