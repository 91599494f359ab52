"""The stage `check`: which rows it writes for good, wrong and broken outputs, and what they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfarm.config.accelerators import AcceleratorCode
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.models import DType, Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import Target
from crossfarm.errors import BundleError, ConfigError
from crossfarm.results import CheckRecord, MeasurementRecord, read_records
from crossfarm.stages.check import stage as check
from crossfarm.stages.data.tensors import write_stacked
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Needs, Subject
from crossfarm.stages.reference.artifact import Case, Reference, TensorFile

IDENTITY = "ab" * 32
ENTRY = {
    "name": "m",
    "source": {"file": "m"},
    "licence": "MIT",
    "inputs": [{"name": "x", "shape": [1, 3, 8, 8]}],
    "preprocess": {"crop": [8, 8]},
    "data": ["d"],
}
NAMES = ("cat", "dog, hound", "bird", "fish", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What the stage wrote."""

    checks: dict[str, CheckRecord]
    measurements: dict[str, MeasurementRecord]


def _result(**fields: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "model": "m",
        "target": "t",
        "identity": IDENTITY,
        "threads": 1,
        "warmup": 1,
        "load_ns": 1000,
        "verify_ns": 2000,
        "latency_ns": [2_000_000, 1_000_000, 3_000_000],
        "arena_bytes": 64,
        "weights_bytes": 128,
        "program_bytes": 256,
        "peak_rss_bytes": 512,
        "workspace_peak_bytes": 32,
        **fields,
    }


class _OwnCode(AcceleratorCode):
    """Of an accelerator whose compiler quantises float32 itself."""

    QUANTISES: ClassVar[bool] = True


PROCESSOR = Target(name="t", machine=("x86_64",), code=LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64"))
ACCELERATOR = Target(name="t", machine=("array",), code=_OwnCode(megahertz=100))


def _needs(entry: dict[str, Any], *, variant: str, target: Target = PROCESSOR) -> Needs:
    pipeline = Pipeline.model_validate({"name": "p", "targets": ["t"]})
    model = Model.model_validate(entry)
    return check.needs(Subject(pipeline=pipeline, model=model, target=target, variant=variant))


def _job(
    tmp_path: Path,
    *,
    expected: np.ndarray,
    output: np.ndarray,
    cases: list[Case],
    model: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    timing: str = "silicon",
    characters: tuple[str, ...] | None = None,
    dtype: DType = "float32",
    target: Target = PROCESSOR,
) -> Job:
    entry = {**ENTRY, **(model or {})}
    needs = _needs(entry, variant="float32", target=target)
    folders = {role: tmp_path / role for role in needs.inputs}
    for folder in (
        *folders.values(),
        tmp_path / "out",
        folders["reference"] / "outputs",
        folders["measure"] / "outputs",
    ):
        folder.mkdir()
    port = TensorFile(name="scores", dtype=dtype, shape=expected.shape[1:], file="outputs/0.bin")
    Reference(cases=tuple(cases), inputs=(), outputs=(port,), classes=NAMES, characters=characters).write(
        folders["reference"]
    )
    write_stacked(folders["reference"] / "outputs/0.bin", expected, dtype=dtype)
    write_stacked(folders["measure"] / "outputs/0.bin", output, dtype=dtype)
    written = _result(cases=len(cases), outputs=[{"name": "scores", "file": "0.bin", "bytes": output.nbytes}])
    (folders["measure"] / "result.json").write_text(json.dumps({**written, **(result or {})}))
    board = {"board": "host", "timing": timing, "emulator": None, "machine": "x", "kernel": "6"}
    board |= {"cpu_model": "cpu", "governor": None, "temperature": 41.5}
    (folders["measure"] / "measure.json").write_text(json.dumps(board))
    manifest = {"model": "m", "target": "t", "variant": "float32", "cell": "t-m-float32", "identity": IDENTITY}
    manifest |= {"cases": len(cases), "provenance": {"apache-tvm": "0.27"}}
    (folders["bundle"] / "manifest.json").write_text(json.dumps(manifest))
    return Job(
        id="check:t-m-float32",
        stage="check",
        key="0" * 64,
        parameters=json.loads(json.dumps(needs.parameters)),
        inputs=folders,
        output=tmp_path / "out",
        root=tmp_path,
    )


def _rows(job: Job) -> Rows:
    check.run(job)
    found = read_records(job.output / "records.jsonl")
    checks = {row.name: row for row in found if isinstance(row, CheckRecord)}
    measurements = {row.name: row for row in found if isinstance(row, MeasurementRecord)}
    assert len(checks) + len(measurements) == len(found), "names are not unique"
    assert {row.cell for row in (*checks.values(), *measurements.values())} == {"t-m-float32"}
    return Rows(checks=checks, measurements=measurements)


def _labelled(labels: list[Any]) -> list[Case]:
    cases = [Case(name=f"d {n}", kind="data", dataset="d", label=label) for n, label in enumerate(labels)]
    return [Case(name="random 0", kind="random"), *cases]


SCORES = np.eye(len(NAMES), dtype=np.float32)[[3, 0, 1, 2]] + np.linspace(0, 0.1, 7, dtype=np.float32)
CLASSIFY = {"decode": {"kind": "classify", "top": 2}, "checks": {"top1": 0.6, "top5": 1.0}}


def test_a_good_cell_passes_and_says_its_numbers(tmp_path: Path) -> None:
    output = SCORES + np.float32(1e-6)
    rows = _rows(_job(tmp_path, expected=SCORES, output=output, cases=_labelled([0, 1, 3]), model=CLASSIFY))
    gate = rows.checks["accuracy.output.scores"]
    assert gate.status == "passed"
    assert gate.limit == 1e-4 and gate.value == pytest.approx(1e-6 / SCORES[:, 4].max(), rel=0.1)
    assert "argmax equal in 100.00% of the cases" in gate.message
    assert "of the scale 0.06667 of channel 4 of axis 0 (limit 0.0001)" in gate.message
    assert rows.checks["accuracy.argmax"].message.startswith("argmax equal to the reference's in 4 of 4 cases")
    top1 = rows.checks["accuracy.top1.d"]
    assert (top1.status, top1.value, top1.limit) == ("passed", pytest.approx(2 / 3), 0.6)
    assert top1.message == "2 of 3 right (66.67%, limit 60.00%); the reference has 2"
    assert top1.details[1].startswith("d 1: dog 1.01") and top1.details[1].endswith(" - right")
    assert top1.details[2].endswith(" - WRONG, it is fish")
    assert rows.checks["accuracy.top5.d"].value == pytest.approx(1.0)
    assert rows.measurements["accuracy.max_abs_diff.scores"].unit == "scale"
    assert rows.measurements["accuracy.top1.d"].value == pytest.approx(2 / 3)


def test_latency_keeps_its_samples_and_provenance(tmp_path: Path) -> None:
    rows = _rows(_job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2])))
    p50 = rows.measurements["latency.p50"]
    assert (p50.value, p50.unit, p50.samples) == (2e6, "ns", (2e6, 1e6, 3e6))
    assert (p50.provenance.board, p50.provenance.tvm_version, p50.provenance.temperature) == ("host", "0.27", 41.5)
    assert rows.measurements["latency.n"].value == 3
    assert rows.measurements["latency.cv"].value == pytest.approx(0.5)
    sizes = {name: rows.measurements[name].value for name in ("arena", "weights", "program", "peak_rss", "load_time")}
    assert sizes == {"arena": 64, "weights": 128, "program": 256, "peak_rss": 512, "load_time": 1000}
    row = rows.checks["latency.p50"]
    assert row.status == "informative"
    assert row.message == "p50 2.000 ms, p90 2.800, min 1.000, mean 2.000, cv 50.0%, 3 runs, 1 thread"


def test_emulated_latency_says_so_and_gates_nothing(tmp_path: Path) -> None:
    rows = _rows(_job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]), timing="emulated"))
    row = rows.checks["latency.p50"]
    assert (row.status, row.limit) == ("informative", None)
    assert row.message.endswith("emulated: says nothing about a real board and gates nothing")
    assert {record.provenance.timing for record in rows.measurements.values()} == {"emulated"}


def test_a_board_that_slowed_down_marks_its_latency(tmp_path: Path) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]))
    path = job.inputs["measure"] / "measure.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "throttled": "throttled at 82 °C"}))
    rows = _rows(job)
    assert rows.checks["latency.p50"].message.endswith("; the board slowed down meanwhile: throttled at 82 °C")
    assert {record.provenance.throttled for record in rows.measurements.values()} == {"throttled at 82 °C"}


def test_a_wrong_output_is_a_failed_row_that_names_the_worst_case(tmp_path: Path) -> None:
    output = SCORES.copy()
    output[2] = output[2, ::-1]
    rows = _rows(_job(tmp_path, expected=SCORES, output=output, cases=_labelled([0, 1, 2]), model=CLASSIFY))
    assert rows.checks["accuracy.output.scores"].status == "failed"
    assert rows.checks["accuracy.output.scores"].message.endswith("worst case: d 1, channel 5")
    assert rows.checks["accuracy.argmax"].status == "failed"
    assert rows.checks["accuracy.argmax"].details == ("d 1 differs",)
    assert rows.checks["accuracy.top1.d"].message.startswith("2 of 3 right")


TOKENS = np.array([[50_000, 17, 3], [12, 9, 40_000]], np.int64)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_token_ids_that_are_each_one_off_fail(tmp_path: Path, dtype: DType) -> None:
    rows = _rows(_job(tmp_path, expected=TOKENS, output=TOKENS + 1, cases=_labelled([0]), dtype=dtype))
    row = rows.checks["accuracy.output.scores"]
    assert (row.status, row.limit) == ("failed", 0.0)
    assert row.message.startswith("100.00% of the elements differ, by 1 at most; it is compared exactly; worst case: ")


def test_a_flag_that_is_turned_fails_and_equal_integers_pass(tmp_path: Path) -> None:
    flags = np.array([[True, False, True], [False, False, True]])
    turned = flags.copy()
    turned[1, 2] = False
    for name, output, status in (("a", turned, "failed"), ("b", flags, "passed")):
        (tmp_path / name).mkdir()
        rows = _rows(_job(tmp_path / name, expected=flags, output=output, cases=_labelled([0]), dtype="bool"))
        assert rows.checks["accuracy.output.scores"].status == status


def _outputs(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"checks": {"outputs": list(entries)}}


def test_integers_may_differ_by_what_is_declared_for_them(tmp_path: Path) -> None:
    model = _outputs({"name": "scores", "tolerance": 0.01, "scale": 255})
    expected = np.array([[0, 255, 7], [9, 0, 3]], np.uint8)
    for name, change, status in (("a", 2, "passed"), ("b", 3, "failed")):
        (tmp_path / name).mkdir()
        output = expected + np.array([change, 0, 0], np.uint8)
        job = _job(tmp_path / name, expected=expected, output=output, cases=_labelled([0]), dtype="uint8", model=model)
        assert _rows(job).checks["accuracy.output.scores"].status == status


def test_a_declared_axis_and_scale_are_what_an_output_is_held_against(tmp_path: Path) -> None:
    expected = np.stack([np.linspace(0, 640, 8), np.linspace(0, 0.9, 8)])[np.newaxis].repeat(2, axis=0)
    output = expected * np.array([[1.0], [0.0]])
    seen = {}
    for name, model in (
        ("undeclared", {}),
        ("axis", _outputs({"name": "scores", "axis": 0})),
        ("scale", _outputs({"name": "scores", "axis": 0, "scale": [640, 1e6]})),
    ):
        (tmp_path / name).mkdir()
        seen[name] = _rows(_job(tmp_path / name, expected=expected, output=output, cases=_labelled([0]), model=model))
    assert {name: rows.checks["accuracy.output.scores"].status for name, rows in seen.items()} == {
        "undeclared": "failed",
        "axis": "failed",
        "scale": "passed",
    }
    assert "channel 1 of axis 0" in seen["axis"].checks["accuracy.output.scores"].message
    told = seen["undeclared"].checks["accuracy.scales.scores"]
    assert told.status == "informative"
    assert told.message.endswith("if its channels stand there, declare `axis: 0` for it under checks.outputs")
    assert "each is held against its own" in seen["axis"].checks["accuracy.scales.scores"].message
    assert "accuracy.scales.scores" not in seen["scale"].checks


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "score"}, "checks.outputs names 'score', which is no output of it; perhaps you meant 'scores'"),
        ({"name": "scores", "axis": 3}, r"scores: axis 3 is none of the axes of \[7\]"),
        ({"name": "scores", "scale": [1, 2]}, "scores: scale has 2 numbers, but .* has 7 channels"),
    ],
)
def test_a_declaration_for_another_output_is_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]), model=_outputs(entry))
    with pytest.raises(ConfigError, match=message):
        check.run(job)


def test_int8_takes_axis_and_scale_of_the_model_and_its_own_tolerance() -> None:
    entry = {
        **ENTRY,
        "variants": ["float32", "int8"],
        "checks": {"outputs": [{"name": "a", "axis": 1, "scale": 2.0, "tolerance": 1e-6}, {"name": "b", "axis": 0}]},
        "quantisation": {"checks": {"outputs": [{"name": "a", "tolerance": 0.1}, {"name": "c", "scale": 1.0}]}},
    }
    needs = _needs(entry, variant="int8")
    assert needs.parameters["model m"]["checks"]["outputs"] == [
        {"name": "a", "tolerance": 0.1, "scale": 2.0, "axis": 1},
        {"name": "b", "tolerance": None, "scale": None, "axis": 0},
        {"name": "c", "tolerance": None, "scale": 1.0, "axis": None},
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(bad=st.sampled_from([np.nan, np.inf, -np.inf]), case=st.integers(0, 3), place=st.integers(0, 6))
@pytest.mark.parametrize(
    "decode", [None, {"kind": "classify"}, {"kind": "ctc_text"}, {"kind": "threshold", "threshold": 0.5}]
)
def test_nan_and_infinity_fail_whatever_the_model_is(
    tmp_path_factory: pytest.TempPathFactory, decode: Any, bad: float, case: int, place: int
) -> None:
    output = SCORES.copy()
    output[case, place] = bad
    folder = tmp_path_factory.mktemp("cell")
    cases, characters = _labelled(["0", "1", "2"]), ("", *"012345")
    job = _job(folder, expected=SCORES, output=output, cases=cases, model={"decode": decode}, characters=characters)
    rows = _rows(job)
    assert rows.checks["accuracy.output.scores"].status == "failed"
    assert rows.checks["accuracy.output.scores"].message.startswith("1 elements are NaN or infinite")
    agreement = rows.checks.get("accuracy.argmax") or rows.checks.get("accuracy.decision")
    assert decode is None or (agreement is not None and agreement.status == "failed")


def test_texts_are_read_and_misread_ones_shown(tmp_path: Path) -> None:
    characters = ("", *"01234", " ")
    scores = np.eye(7, dtype=np.float32)[[[0, 1, 1, 0], [1, 0, 2, 2], [4, 4, 0, 4]]]
    model = {"decode": {"kind": "ctc_text"}, "checks": {"text": 1.0}}
    cases = _labelled(["01", "34"])
    job = _job(tmp_path, expected=scores, output=scores, cases=cases, model=model, characters=characters)
    row = _rows(job).checks["text.d"]
    assert (row.status, row.value) == ("failed", 0.5)
    assert row.details == ("d 0: '01' - right", "d 1: '33' - WRONG, it is '34'")


def test_labels_of_another_numbering_are_translated(tmp_path: Path) -> None:
    model = {"decode": {"kind": "classify", "top": 1, "labels": [1, 2, 0]}, "checks": {"top1": 1.0}}
    cases = _labelled([2, 0, 1])
    rows = _rows(_job(tmp_path, expected=SCORES, output=SCORES, cases=cases, model=model))
    assert rows.checks["accuracy.top1.d"].status == "passed"


def test_decisions_are_held_against_reference_and_labels(tmp_path: Path) -> None:
    expected = np.array([[0.2], [0.49], [0.9], [0.1]], np.float32)
    output = np.array([[0.2], [0.51], [0.9], [0.1]], np.float32)
    model = {"decode": {"kind": "threshold", "threshold": 0.5}, "checks": {"tolerance": 0.1, "argmax": 0.5}}
    rows = _rows(_job(tmp_path, expected=expected, output=output, cases=_labelled([0, 1, 1]), model=model))
    assert rows.checks["accuracy.output.scores"].status == "passed"
    decision = rows.checks["accuracy.decision"]
    assert (decision.status, decision.value, decision.details) == ("passed", 0.75, ("d 0 differs",))
    assert rows.checks["accuracy.top1.d"].status == "informative"
    assert rows.checks["accuracy.top1.d"].details[0] == "d 0: 1 (0.510) - WRONG, it is 0"


def test_a_long_list_of_answers_shows_the_wrong_ones(tmp_path: Path) -> None:
    scores = np.eye(7, dtype=np.float32)[[0] * 301]
    cases = _labelled([0] * 299 + [1])
    rows = _rows(_job(tmp_path, expected=scores, output=scores, cases=cases, model=CLASSIFY))
    details = rows.checks["accuracy.top1.d"].details
    assert len(details) == 201
    assert details[0].endswith("WRONG, it is dog")
    assert details[-1] == "100 more are not shown; the wrong ones stand first"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"identity": "cd" * 32}, "the measurement has identity cdcd"),
        ({"cases": 3}, "the measurement has number of cases 3, not 4"),
        ({"outputs": []}, "output scores was not measured"),
        ({"latency_ns": []}, "the runner kept no latency"),
        ({"arena_bytes": -1}, "result.json is damaged at arena_bytes"),
        ({"outputs": [{"name": "scores", "file": "../../reference/outputs/1.bin"}]}, r"damaged at outputs.0.file"),
    ],
)
def test_a_measurement_of_something_else_is_refused(tmp_path: Path, result: dict[str, Any], message: str) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]), result=result)
    with pytest.raises(BundleError, match=message):
        check.run(job)
    assert not (job.output / "records.jsonl").exists()


@pytest.mark.parametrize("name", ["load_ns", "arena_bytes", "weights_bytes", "peak_rss_bytes", "threads", "format"])
@pytest.mark.parametrize("timing", ["silicon", "emulated"])
def test_a_result_of_a_board_that_lacks_a_number_is_refused(tmp_path: Path, name: str, timing: str) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]), timing=timing)
    path = job.inputs["measure"] / "result.json"
    document = json.loads(path.read_text())
    del document[name]
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=rf"result\.json is damaged at {name}"):
        check.run(job)


def test_what_a_simulator_does_not_know_is_left_out(tmp_path: Path) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 2]), timing="simulated")
    path = job.inputs["measure"] / "result.json"
    document = json.loads(path.read_text())
    del document["load_ns"]
    path.write_text(json.dumps(document))
    rows = _rows(job)
    assert "load_time" not in rows.measurements
    assert "arena" in rows.measurements


def test_a_truncated_output_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, expected=SCORES, output=SCORES[:3], cases=_labelled([0, 1, 2]))
    with pytest.raises(BundleError, match=r"outputs/0.bin has 84 bytes instead of 112 \(4 cases of float32 \[7\]\)"):
        check.run(job)


def test_what_an_emulator_leaves_in_the_runners_place_may_lack_numbers(tmp_path: Path) -> None:
    sizes = {"arena_bytes": 4096, "weights_bytes": 128, "stack_peak_bytes": 320}
    job = _job(
        tmp_path,
        expected=SCORES,
        output=SCORES,
        cases=_labelled([0, 1, 2]),
        timing="emulated",
        result={"load_ns": None, "verify_ns": None, "peak_rss_bytes": None, **sizes},
    )
    path = job.inputs["measure"] / "measure.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "simulator": "crossfarm.boards.simulators.cortex_m"}))
    rows = _rows(job)
    found = {name: rows.measurements[name].value for name in ("arena", "weights", "stack_peak")}
    assert found == {"arena": 4096, "weights": 128, "stack_peak": 320}
    assert not {"load_time", "peak_rss"} & set(rows.measurements)
    assert "emulated" in rows.checks["latency.p50"].message


def _unscheduled_job(tmp_path: Path, *, timing: str = "silicon", **manifest: Any) -> Job:
    job = _job(tmp_path, expected=SCORES, output=SCORES, cases=_labelled([0, 1, 3]), timing=timing)
    path = job.inputs["bundle"] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | manifest))
    return job


def test_what_no_rule_covers_is_named_with_its_share_of_the_time(tmp_path: Path) -> None:
    job = _unscheduled_job(tmp_path, timing="emulated", unscheduled=["argmax", "mean"])
    calls = [("convolve", [60, 90, 0]), ("argmax", [20, 5, 0]), ("mean", [10, 4, 0]), ("argmax", [10, 1, 0])]
    profile = {"format": 1, "identity": IDENTITY, "threads": 1, "calls": [{"name": n, "ns": ns} for n, ns in calls]}
    (job.inputs["measure"] / "profile.json").write_text(json.dumps(profile))
    rows = _rows(job)
    row = rows.checks["code.unscheduled"]
    assert (row.status, row.operators, row.unit) == ("informative", ("argmax", "mean"), "share")
    assert row.message == "2 operators unscheduled: argmax, mean; 25.0 % of the time (emulated)"
    assert row.value == pytest.approx(0.25)
    assert rows.measurements["code.unscheduled"].samples == (pytest.approx(0.4), pytest.approx(0.1))


def test_an_older_measurement_without_times_still_names_them(tmp_path: Path) -> None:
    row = _rows(_unscheduled_job(tmp_path, unscheduled=["argmax"])).checks["code.unscheduled"]
    assert (row.value, row.message) == (None, "1 operator unscheduled: argmax; their time was not taken")


def test_operators_that_int8_leaves_in_float_are_counted(tmp_path: Path) -> None:
    row = _rows(_unscheduled_job(tmp_path, left_in_float={"divide": 1, "tanh": 2})).checks["code.left_in_float"]
    assert (row.status, row.value, row.operators) == ("informative", 3, ("divide", "tanh"))
    assert row.message == "3 operators of a quantised model computed in float32: divide, tanh (2)"


def test_a_cell_with_code_of_ours_throughout_has_no_row_about_it(tmp_path: Path) -> None:
    rows = _rows(_unscheduled_job(tmp_path))
    assert not [name for name in (*rows.checks, *rows.measurements) if name.startswith("code.")]


def _accelerator_job(tmp_path: Path, *, simulated: np.ndarray, report: dict[str, Any] | None = None) -> Job:
    """Return a job of a cell whose simulator answered the first case so, in 1,000 cycles."""
    runs = {
        "cycles": [1000],
        "contains": "the array alone",
        "outputs": [{"name": "scores", "file": "0.bin", "bytes": simulated.nbytes}],
    }
    job = _job(
        tmp_path,
        expected=SCORES,
        output=SCORES,
        cases=_labelled([0, 1, 2]),
        timing="simulated",
        result={"simulated": runs},
    )
    (job.inputs["measure"] / "simulated").mkdir()
    write_stacked(job.inputs["measure"] / "simulated/0.bin", [simulated], dtype="float32")
    if report is not None:
        (job.inputs["bundle"] / "accelerator.json").write_text(json.dumps(report))
    return job


def test_a_simulator_that_is_right_shows_its_cycles_and_its_time(tmp_path: Path) -> None:
    rows = _rows(_accelerator_job(tmp_path, simulated=SCORES[0]))
    assert rows.checks["simulator.equal"].status == "passed"
    assert rows.measurements["cycles.simulated"].value == 1000
    assert "latency.p50" in rows.checks


def test_a_simulator_that_is_wrong_is_a_failed_row_and_neither_cycles_nor_time_are_shown(tmp_path: Path) -> None:
    rows = _rows(_accelerator_job(tmp_path, simulated=SCORES[0] + np.float32(1e-7)))
    row = rows.checks["simulator.equal"]
    assert row.status == "failed" and "its cycles are not valid and not shown" in row.message
    assert not {"cycles", "latency.p50"} & rows.checks.keys()
    assert not [name for name in rows.measurements if name.startswith(("cycles", "latency"))]


def test_what_was_built_for_a_card_says_which_boards_hold_one(tmp_path: Path) -> None:
    report = {"card": "dna-f200", "card_files": "IP artefacts"}
    job = _accelerator_job(tmp_path, simulated=SCORES[0], report=report)
    said = "IP artefacts built, not run: no board declares a dna-f200 card"
    assert _rows(job).checks["accelerator"].message == said
    cards = {"cards t-m-float32": {"pc": ["dna-f200"], "other": ["dna-f100"]}}
    other = dataclasses.replace(job, parameters={**job.parameters, **cards})
    assert "built, not run: pc declares a dna-f200 card; name the target among the board's" in (
        _rows(other).checks["accelerator"].message
    )


def _of_accelerator(tmp_path: Path, *, output: np.ndarray, simulated: np.ndarray, cycles: tuple[int, ...]) -> Job:
    files = [{"name": "scores", "file": "0.bin"}]
    job = _job(
        tmp_path,
        expected=SCORES,
        output=output,
        cases=_labelled([0, 1, 2]),
        model={**CLASSIFY, "checks": {"cycles": {"t": 1000}}},
        result={"simulated": {"cycles": list(cycles), "contains": "computation alone", "outputs": files}},
        timing="simulated",
        target=ACCELERATOR,
    )
    (job.inputs["measure"] / "simulated").mkdir()
    write_stacked(job.inputs["measure"] / "simulated/0.bin", simulated, dtype="float32")
    return job


def test_what_a_compiler_quantised_itself_is_judged_by_its_decisions(tmp_path: Path) -> None:
    coarse = np.round(SCORES * 2) / np.float32(2)
    rows = _rows(_of_accelerator(tmp_path, output=coarse, simulated=coarse[:2], cycles=(900, 1000)))
    output = rows.checks["accuracy.output.scores"]
    assert (output.status, output.limit) == ("informative", None)
    assert output.value is not None and output.value > 1e-4
    ladder = rows.checks["accuracy.ladder"]
    assert (ladder.status, ladder.value) == ("passed", 1.0)
    assert ladder.details[1].startswith("own reference: the functional model of t: ")
    assert rows.checks["accuracy.argmax"].status == "passed"
    assert (rows.checks["simulator.equal"].status, rows.checks["cycles"].status) == ("passed", "passed")
    assert rows.measurements["cycles.simulated"].samples == (900.0, 1000.0)


def test_a_compiler_that_loses_decisions_fails(tmp_path: Path) -> None:
    lost = np.roll(SCORES, 1, axis=0)
    rows = _rows(_of_accelerator(tmp_path, output=lost, simulated=lost[:1], cycles=(900,)))
    assert rows.checks["accuracy.ladder"].status == "failed"


def test_cycles_of_a_simulator_that_is_wrong_are_not_shown_and_the_budget_is_not_held(tmp_path: Path) -> None:
    rows = _rows(_of_accelerator(tmp_path, output=SCORES, simulated=SCORES[:1] + 1, cycles=(900,)))
    assert rows.checks["simulator.equal"].status == "failed"
    assert "cycles.simulated" not in rows.measurements
    assert rows.checks["cycles"].message == "a budget of 1,000 cycles is declared, and no valid cycles are known"


def test_a_simulator_that_leaves_an_output_out_is_not_taken_for_one_that_is_right(tmp_path: Path) -> None:
    job = _of_accelerator(tmp_path, output=SCORES, simulated=SCORES[:1], cycles=(900,))
    path = job.inputs["measure"] / "result.json"
    result = json.loads(path.read_text())
    result["simulated"]["outputs"] = []
    path.write_text(json.dumps(result))
    with pytest.raises(BundleError, match="output scores was not measured"):
        check.run(job)


def test_the_time_of_a_simulator_that_is_wrong_stands_in_no_budget(tmp_path: Path) -> None:
    job = _of_accelerator(tmp_path, output=SCORES, simulated=SCORES[:1] + 1, cycles=(900,))
    job.parameters["budgets t"]["latency_p50"] = 100.0
    rows = _rows(job)
    assert "latency.p50" not in rows.measurements
    assert (rows.checks["budget.latency_p50"].status, rows.checks["budget.latency_p50"].value) == ("informative", None)
