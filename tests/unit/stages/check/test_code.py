"""Rows about where the time of a model goes, made of a profile."""

from __future__ import annotations

from typing import Any

from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.code import LAYERS, code_records, layer_times
from crossfarm.stages.measure.artifact import BundleManifest, ProfiledCall, ProfileFile

BUNDLE = BundleManifest(model="m", target="t", variant="float32", cell="t-m-float32", identity="i", cases=1)


def profile(*calls: tuple[str, tuple[int, ...]]) -> ProfileFile:
    return ProfileFile(
        format=1, identity="i", threads=1, calls=tuple(ProfiledCall(name=name, ns=times) for name, times in calls)
    )


def rows(
    found: ProfileFile | None, timing: str = "silicon", bundle: BundleManifest = BUNDLE
) -> list[CheckRecord | MeasurementRecord]:
    def check(**fields: Any) -> CheckRecord:
        return CheckRecord(cell="c", **fields)

    def measurement(name: str, value: float, unit: str, samples: Any = ()) -> MeasurementRecord:
        where = Provenance(board="b", timing="silicon")
        return MeasurementRecord(
            cell="c", name=name, value=float(value), unit=unit, samples=tuple(samples), provenance=where
        )

    return list(code_records(bundle, profile=found, timing=timing, check=check, measurement=measurement))


def test_a_function_takes_the_medians_of_all_its_calls_and_the_slowest_stands_first() -> None:
    found = profile(("relu", (10, 10, 10)), ("conv", (100, 300, 200)), ("relu", (5, 5, 900)), ("conv", (50, 50, 50)))
    assert layer_times(found) == {"conv": 250.0, "relu": 15.0}
    assert list(layer_times(found)) == ["conv", "relu"]


def test_names_and_times_of_the_functions_stand_in_the_same_order() -> None:
    check, number = rows(profile(("relu", (25,)), ("conv", (75,))))
    assert isinstance(check, CheckRecord) and isinstance(number, MeasurementRecord)
    assert (check.name, check.status, check.value, check.operators) == (LAYERS, "informative", 100, ("conv", "relu"))
    assert check.message == "most of the time of 2 functions goes into conv 75.0%, relu 25.0%"
    assert (number.name, number.value, number.unit, number.samples) == (LAYERS, 100, "ns", (75.0, 25.0))


def test_work_is_told_of_the_run_and_of_each_function_in_the_order_of_the_times() -> None:
    bundle = BUNDLE.model_copy(update={"work": {"relu": (0, 64), "conv": (1000, 256), "untimed": (5, 6)}})
    found = rows(profile(("relu", (25,)), ("conv", (75,))), bundle=bundle)
    numbers = {row.name: row for row in found if isinstance(row, MeasurementRecord)}
    assert (numbers["work.operations"].value, numbers["work.bytes"].value) == (1005, 326)
    assert numbers["profile.operations"].samples == (1000, 0)
    assert numbers["profile.bytes"].samples == (256, 64)
    assert {row.name for row in rows(None, bundle=bundle)} == {"work.operations", "work.bytes"}
    assert rows(None) == []


def test_times_of_another_clock_say_so() -> None:
    check, _ = rows(profile(("conv", (75,))), timing="emulated")
    assert isinstance(check, CheckRecord)
    assert check.message == "most of the time of 1 function goes into conv 100.0% (emulated)"


def test_nothing_is_said_without_a_profile_or_where_the_clock_saw_no_time() -> None:
    assert rows(None) == []
    assert rows(profile(("conv", (0, 0)))) == []
