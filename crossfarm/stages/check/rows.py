"""From measured outputs and the reference to records: the differences of every output, latency and sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfarm.boards.result import OUTPUTS, RESULT, SIMULATED, OutputFile, RunnerResult, RunResult
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.config.base import Declared, Name, Share
from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Boxes, Classify, CtcText, Decode, Detect, Embeddings, Masks
from crossfarm.errors import BundleError
from crossfarm.results import CheckRecord, MeasurementRecord, Provenance
from crossfarm.stages.check.accelerators import (
    SimulatedOutput,
    cycle_records,
    is_simulator_right,
    report_records,
    simulated_outputs,
    simulator_records,
)
from crossfarm.stages.check.budgets import budget_records
from crossfarm.stages.check.code import code_records
from crossfarm.stages.check.decoded import Decoded, decoded_records
from crossfarm.stages.check.ladder import Rung, ladder_records, layer_records
from crossfarm.stages.check.outputs import judged, output_records
from crossfarm.stages.check.shapes import Shapes, shape_records
from crossfarm.stages.check.statistics import Summary, summarise
from crossfarm.stages.data.tensors import Array, read_stacked
from crossfarm.stages.job import HOST, Job
from crossfarm.stages.measure.artifact import (
    MANIFEST,
    MEASURE,
    PROFILE,
    BoardFile,
    BundleManifest,
    ProfileFile,
    read_file,
)
from crossfarm.stages.quantize.artifact import Quantised
from crossfarm.stages.reference.artifact import Reference, TensorFile

Row = CheckRecord | MeasurementRecord
_NOT_REAL = ("simulated", "estimated")
"""Timings of what no runner ran."""


class _Declaration(Declared):
    """What of a model's entry the stage is given; the names are those of config.models.Model."""

    name: Name
    checks: Checks
    decode: Decode | None
    agreement: Share | None = None
    is_own_reference: bool = False
    """The backend quantised the model itself, so what it answers is no gate by itself: its decisions are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that the artifacts say about one cell.

    Attributes:
        folder: artifact of the stage `measure`.
        bundle: what ran.
        result: what the runner wrote.
        board: where it ran.
        provenance: the same in the words of the records.
    """

    folder: Path
    bundle: BundleManifest
    result: RunResult
    board: BoardFile
    provenance: Provenance

    def measurement(
        self, name: str, value: float, unit: str, samples: Sequence[float] = (), *, cases: int | None = None
    ) -> MeasurementRecord:
        """Return a record of one number of this cell."""
        return MeasurementRecord(
            cell=self.bundle.cell,
            name=name,
            value=float(value),
            unit=unit,
            samples=tuple(float(sample) for sample in samples),
            provenance=self.provenance,
            cases=cases,
        )

    def known_measurement(self, name: str, value: float | None, unit: str) -> Iterator[MeasurementRecord]:
        """Yield a record of one number of this cell; none where what ran it does not know."""
        if value is not None:
            yield self.measurement(name, value, unit)

    def check(self, **fields: Any) -> CheckRecord:
        """Return a row of this cell."""
        return CheckRecord(cell=self.bundle.cell, **fields)


def records(job: Job) -> Iterator[Row]:
    """Yield every record of the stage `check`; see there.

    Raises:
        ConfigError: checks.outputs is about another output than the model has, or about one of another shape.
    """
    model = _Declaration.model_validate(job.group("model"))
    reference = Reference.read(job.inputs["reference"])
    measured = _measured(job, reference)
    pairs = {
        port.name: (
            _measured_output(measured, reference, number),
            read_stacked(
                job.inputs.get("quantize", job.inputs["reference"]) / port.file,
                dtype=port.dtype,
                shape=port.shape,
                cases=len(reference.cases),
            ),
        )
        for number, port in enumerate(reference.outputs)
    }
    quantised = Quantised.read(job.inputs["quantize"]) if "quantize" in job.inputs else None
    how = judged(model.name, reference.outputs, model.checks, steps=quantised.steps if quantised is not None else {})
    is_scored = isinstance(model.decode, Classify | CtcText)
    for number, (name, (output, expected)) in enumerate(pairs.items()):
        yield from output_records(
            name,
            output,
            expected,
            how[name],
            cases=reference.cases,
            argmax=number == 0 and is_scored,
            gates=not (model.is_own_reference and model.decode is not None),
            check=measured.check,
            measurement=measured.measurement,
        )
    decoded = None
    if isinstance(model.decode, Boxes | Masks | Embeddings) and pairs:
        yield from shape_records(
            Shapes(model=model.name, pairs=pairs, reference=reference, decode=model.decode, checks=model.checks),
            check=measured.check,
            measurement=measured.measurement,
        )
    elif isinstance(model.decode, Classify | CtcText | Detect) and pairs:
        output, expected = next(iter(pairs.values()))
        decoded = Decoded(
            output=output,
            expected=expected,
            reference=reference,
            decode=model.decode,
            checks=model.checks,
            labelled_only=quantised is not None or model.is_own_reference,
        )
        yield from decoded_records(decoded, check=measured.check, measurement=measured.measurement)
    if (quantised is not None or model.is_own_reference) and pairs:
        output, expected = next(iter(pairs.values()))
        ready_made = quantised is not None and quantised.ready_made
        yield from ladder_records(
            _rungs(job, reference, measured, expected, output, ready_made=ready_made),
            decoded,
            yardstick=how[reference.outputs[0].name].yardstick,
            agreement=model.agreement,
            check=measured.check,
            measurement=measured.measurement,
        )
    if quantised is not None:
        yield from layer_records(quantised.layers, check=measured.check)
    simulated = _simulated(measured, reference, {name: output for name, (output, _) in pairs.items()})
    is_right = is_simulator_right(simulated)
    yield from _accelerator_records(job, measured, simulated, is_right=is_right)
    if is_right:
        # A simulator that computes otherwise did not run this model, so its time is not shown either.
        yield from latency_records(measured)
    yield from budget_records(
        _budgets(job),
        measured.result,
        summarise(measured.result.latency_ns) if is_right else None,
        timing=measured.board.timing,
        check=measured.check,
    )
    yield from size_records(measured)
    yield from code_records(
        measured.bundle,
        profile=_profile(measured),
        timing=measured.board.timing,
        check=measured.check,
        measurement=measured.measurement,
    )


def _accelerator_records(
    job: Job, measured: Measured, found: Sequence[SimulatedOutput], *, is_right: bool
) -> Iterator[Row]:
    """Yield what simulator and compiler of an accelerator say; nothing for programs of a processor."""
    path = job.inputs["bundle"] / ACCELERATOR
    report = AcceleratorReport.read(path) if path.exists() else AcceleratorReport()
    if found:
        yield from simulator_records(found, check=measured.check, measurement=measured.measurement)
    budget = _budgets(job).get("cycles")
    yield from cycle_records(
        measured.result.simulated if is_right else None,
        report.estimate,
        budget=None if budget is None else int(budget),
        check=measured.check,
        measurement=measured.measurement,
    )
    cards: Mapping[str, Sequence[str]] = next(
        (group for name, group in job.parameters.items() if name.startswith("cards ")), {}
    )
    yield from report_records(
        report, cards=cards, board=measured.board.board, check=measured.check, measurement=measured.measurement
    )


def _budgets(job: Job) -> Mapping[str, float]:
    return next((group for name, group in job.parameters.items() if name.startswith("budgets ")), {})


def _simulated(measured: Measured, reference: Reference, functional: Mapping[str, Array]) -> list[SimulatedOutput]:
    """Return what the slow simulator answered, beside the functional model; nothing where there is none."""
    runs = measured.result.simulated
    if runs is None:
        return []
    simulated = {
        port.name: _read_output(measured, SIMULATED, runs.outputs, port, cases=len(runs.cycles))
        for port in reference.outputs
    }
    return simulated_outputs(simulated, functional)


def _profile(measured: Measured) -> ProfileFile | None:
    path = measured.folder / PROFILE
    return read_file(ProfileFile, path) if path.exists() else None


def _rungs(
    job: Job, reference: Reference, measured: Measured, quantised: Array, output: Array, *, ready_made: bool
) -> list[Rung]:
    """Return the first output after each step: float32, quantised, compiled, on the board."""
    port = reference.outputs[0]
    variant, found = measured.bundle.variant, []
    if "quantize" in job.inputs:
        found = [Rung(name="quantised", words=f"{variant} in ONNX Runtime", step="quantising", output=quantised)]
    if not ready_made:
        real = read_stacked(
            job.inputs["reference"] / port.file, dtype=port.dtype, shape=port.shape, cases=len(reference.cases)
        )
        found.insert(0, Rung(name="float", words="float32 in ONNX Runtime", step="", output=real))
    if "compiled" in job.inputs:
        here = dataclasses.replace(
            measured,
            folder=job.inputs["compiled"],
            result=read_file(RunnerResult, job.inputs["compiled"] / RESULT),
        )
        words = f"{variant} compiled for {here.result.target}, on this host"
        compiled = _measured_output(here, reference, 0)
        found.append(Rung(name="compiled", words=words, step="compiling", output=compiled))
    if measured.board.timing in _NOT_REAL:
        words = f"own reference: the functional model of {measured.bundle.target}"
        step = "the accelerator's arithmetic" if "quantize" in job.inputs else "quantising by the target's compiler"
        return [*found, Rung(name="own_reference", words=words, step=step, output=output)]
    step = "running on the target" if "compiled" in job.inputs else "compiling"
    return [*found, Rung(name="target", words=f"{variant} on the target", step=step, output=output)]


def latency_records(measured: Measured) -> Iterator[Row]:
    """Yield latency as numbers and as a row that gates nothing; emulated time says so."""
    samples = measured.result.latency_ns
    if not samples:
        raise BundleError(f"{measured.bundle.cell}: the runner kept no latency; set measure.repeat to at least 1")
    summary = summarise(samples)
    yield CheckRecord(
        cell=measured.bundle.cell,
        name="latency.p50",
        status="informative",
        value=summary.p50,
        unit="ns",
        message=latency_message(
            summary,
            threads=measured.result.threads,
            timing=measured.board.timing,
            throttled=measured.board.throttled,
        ),
    )
    yield measured.measurement("latency.p50", summary.p50, "ns", samples)
    yield measured.measurement("latency.p90", summary.p90, "ns")
    yield measured.measurement("latency.min", summary.minimum, "ns")
    yield measured.measurement("latency.mean", summary.mean, "ns")
    yield measured.measurement("latency.cv", summary.variation, "share")
    yield measured.measurement("latency.n", summary.count, "count")


def latency_message(summary: Summary, *, threads: int, timing: str, throttled: str | None = None) -> str:
    """Say in one line what a latency (in ns) was, and what it is worth."""
    text = (
        f"p50 {summary.p50 / 1e6:.3f} ms, p90 {summary.p90 / 1e6:.3f}, min {summary.minimum / 1e6:.3f}, "
        f"mean {summary.mean / 1e6:.3f}, cv {summary.variation:.1%}, {summary.count} runs, "
        f"{threads} thread{'' if threads == 1 else 's'}"
    )
    if throttled:
        text += f"; the board slowed down meanwhile: {throttled}"
    return text if timing == "silicon" else f"{text}; {timing}: says nothing about a real board and gates nothing"


def size_records(measured: Measured) -> Iterator[Row]:
    """Yield load time, memory and file sizes."""
    result = measured.result
    yield from measured.known_measurement("load_time", result.load_ns, "ns")
    yield from measured.known_measurement("verify_time", result.verify_ns, "ns")
    yield from measured.known_measurement("arena", result.arena_bytes, "bytes")
    yield from measured.known_measurement("weights", result.weights_bytes, "bytes")
    yield from measured.known_measurement("program", result.program_bytes, "bytes")
    yield from measured.known_measurement("workspace_peak", result.workspace_peak_bytes, "bytes")
    yield from measured.known_measurement("stack_peak", result.stack_peak_bytes, "bytes")
    yield from measured.known_measurement("peak_rss", result.peak_rss_bytes, "bytes")


def _measured(job: Job, reference: Reference) -> Measured:
    """Read the artifacts and make sure that they belong together."""
    folder = job.inputs["measure"]
    bundle = read_file(BundleManifest, job.inputs["bundle"] / MANIFEST)
    board = read_file(BoardFile, folder / MEASURE)
    is_simulated = board.simulator is not None or board.timing in _NOT_REAL
    result = read_file(RunResult if is_simulated else RunnerResult, folder / RESULT)
    for what, found, expected in (
        ("identity", result.identity, bundle.identity),
        ("number of cases", result.cases, len(reference.cases)),
    ):
        if found != expected:
            raise BundleError(
                f"{bundle.cell}: the measurement has {what} {found}, not {expected}; it is of another bundle: "
                "run the stage `measure` again"
            )
    provenance = Provenance(
        board=board.board,
        timing=board.timing,
        cpu_model=board.cpu_model,
        governor=board.governor,
        temperature=board.temperature,
        emulator=board.emulator,
        virtualisation=board.virtualisation,
        throttled=board.throttled,
        sandbox=board.sandbox,
        git_commit=board.git_commit,
        tvm_version=bundle.provenance.get("apache-tvm"),
        image_digest=None if job.image == HOST else f"sha256:{job.image}",
    )
    return Measured(folder=folder, bundle=bundle, result=result, board=board, provenance=provenance)


def _measured_output(measured: Measured, reference: Reference, number: int) -> Array:
    """Read the output that has the name of the reference's output `number`."""
    port = reference.outputs[number]
    return _read_output(measured, OUTPUTS, measured.result.outputs, port, cases=len(reference.cases))


def _read_output(
    measured: Measured, folder: str, files: Sequence[OutputFile], port: TensorFile, *, cases: int
) -> Array:
    """Read what a run left of one output.

    Args:
        measured: the cell.
        folder: of its measurement: `outputs` or `simulated`.
        files: which outputs there are.
        port: the output.
        cases: how many are stacked.

    Raises:
        BundleError: the run left none.
    """
    file = next((output.file for output in files if output.name == port.name), None)
    if file is None:
        raise BundleError(f"{measured.bundle.cell}: output {port.name} was not measured; make the bundle again")
    path = measured.folder / folder / Path(file).name
    return read_stacked(path, dtype=port.dtype, shape=port.shape, cases=cases)
