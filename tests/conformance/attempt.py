"""Takes one form of a case through prepare, compile, bundle and the program, and compares what it answers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossfarm.backends.project_files import load_targets
from crossfarm.backends.tvm import backend
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.contents import WEIGHTS, copy_inputs, write_manifest
from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.bundles.linking.runner_objects import OWN, compile_all, compile_runner, object_names
from crossfarm.bundles.linking.runner_sources import LIBRARY_SOURCES, PROGRAM_SOURCES, RUNNER, copy_sources
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target
from crossfarm.errors import CrossfarmError, ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, make_bounded, serialise
from crossfarm.stages.prepare.versions import lower_format, lower_operators
from crossfarm.util.paths import HOME
from tests.conformance.forms import Form, stated_sizes
from tests.conformance.suite import Array

RIGHT, WRONG, REFUSED, CRASH, DYNAMIC, OUT_OF_SCOPE = "right", "wrong", "refused", "crash", "dynamic", "out of scope"
CELL = Cell(model="case", target="x86_64", variant="float32")
_NAMED = re.compile(r"operator \S+ \(")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one form.

    Attributes:
        id: of the form.
        operator: that the case is about.
        opset: of its model.
        status: one of the words above.
        reason: in words, empty when it is right.
        runtime: what ONNX Runtime's CPU does: right, wrong or refused.
        seconds: of the attempt.
    """

    id: str
    operator: str
    opset: int
    status: str
    reason: str = ""
    runtime: str = ""
    seconds: float = 0.0

    @property
    def is_named(self) -> bool:
        """Whether a refusal names operator and node."""
        return bool(_NAMED.search(self.reason))


@functools.cache
def target() -> Target:
    """The target of all attempts."""
    return load_targets(HOME / "toolchains")[CELL.target]


def build_runner(folder: Path) -> None:
    """Compile what all programs have in common, once."""
    compiler = target().compiler
    assert compiler is not None
    compile_runner(compiler, static=target().linkage == "static", sources=RUNNER, output=folder)
    with tempfile.TemporaryDirectory() as scratch:
        Toolchain(compiler=compiler, static=target().linkage == "static", folder=Path(scratch)).build_c_libraries()


def attempt(form: Form, *, runner: Path) -> tuple[str, str]:
    """Return status and reason of a form."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        try:
            answers = _answers(form, Path(name), runner)
        except CrossfarmError as error:
            return REFUSED, " ".join(str(error).split())
        except AssertionError as error:
            return CRASH, f"{type(error).__name__}: {error}"
    for (_, expected), answer in zip(form.data, answers, strict=True):
        difference = compare(answer, expected, rtol=form.case.rtol, atol=form.case.atol)
        if difference:
            return WRONG, difference
    return RIGHT, ""


def _answers(form: Form, folder: Path, runner: Path) -> list[list[Array]]:
    first = form.data[0][0]
    inputs = [StaticInput(name=name, shape=value.shape, dtype=value.dtype.name) for name, value in first.items()]
    model = make_bounded(form.model.SerializeToString(), inputs, sizes=stated_sizes(form)).model
    (folder / "model.onnx").write_bytes(serialise(model))
    compiled = folder / "compiled"
    compiled.mkdir()
    backend.compile(cell=CELL, model=folder / "model.onnx", code=target().code, output=compiled)
    bundle = folder / "bundle"
    bundle.mkdir()
    _bundle(compiled, form, bundle, runner)
    answers = _run(bundle, cases=len(form.data))
    names = [port.name for port in model.graph.output]
    return [
        _counted(dict(zip(names, answer, strict=True)), form, expected)
        for (_, expected), answer in zip(form.data, answers, strict=True)
    ]


def _counted(answer: dict[str, Array], form: Form, expected: Sequence[Array]) -> list[Array]:
    """Return the outputs without the places that do not count, where counts stand behind them."""
    found = []
    for port, wanted in zip(form.model.graph.output, expected, strict=False):
        output, count = answer[port.name], answer.get(f"{port.name}.count")
        if count is not None and int(count) in np.shape(wanted):
            output = output[tuple(slice(0, extent) for extent in np.shape(wanted))]
        found.append(output)
    return found


def _bundle(compiled: Path, form: Form, bundle: Path, runner: Path) -> None:
    """Make the bundle as the stage does, with the program alone: no library, no server."""
    reference = bundle.parent / "reference"
    (reference / "inputs").mkdir(parents=True)
    ports = json.loads((compiled / "compile.json").read_text())["inputs"]
    for number, port in enumerate(ports):
        port["file"] = f"inputs/{number}.bin"
        content = b"".join(np.ascontiguousarray(given[port["name"]]).tobytes() for given, _ in form.data)
        (reference / port["file"]).write_bytes(content)
    cases = [{"name": f"case {k}", "kind": "random", "dataset": None, "label": None} for k in range(len(form.data))]
    document: dict[str, Any] = {"cases": cases, "inputs": ports, "outputs": [], "classes": None, "characters": None}
    (reference / "reference.json").write_text(json.dumps(document))
    compiler = target().compiler
    assert compiler is not None
    report = CompileReport.read(compiled / "compile.json")
    order = BundleOrder(cell=CELL, compiled=compiled, reference=reference, linking=None, compiler=compiler)
    described = copy_inputs(report, document, reference, bundle)
    work = bundle.parent / "work"
    work.mkdir()
    copy_sources(RUNNER, work)
    for path in runner.iterdir():
        shutil.copyfile(path, work / path.name)
    shutil.copyfile(compiled / "tables.c", work / "model_tables.c")
    shutil.copyfile(compiled / "model.o", work / "model_code.o")
    toolchain = Toolchain(compiler=compiler, static=False, folder=work)
    linker = toolchain.for_programs()
    objects = compile_all(linker, ["model_tables.c"], OWN)
    linker.link_program(
        [*object_names(PROGRAM_SOURCES), "model_code.o", *objects, *object_names(LIBRARY_SOURCES, OWN)], "program"
    )
    shutil.copy(work / "program", bundle / "program")
    shutil.copyfile(compiled / WEIGHTS, bundle / WEIGHTS)
    write_manifest(bundle, cell=order.cell, report=report, document=document, inputs=described, provenance={})


def _run(bundle: Path, *, cases: int) -> list[list[Array]]:
    outputs = bundle.parent / "outputs"
    outputs.mkdir()
    command = [str(bundle / "program"), str(bundle), "--warmup", "0", "--repeat", "1", "--outputs", str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise AssertionError(f"the program ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    ports = json.loads((bundle / "manifest.json").read_text())["outputs"]
    stacked = [
        np.frombuffer((outputs / f"{k}.bin").read_bytes(), dtype=_dtype(port["dtype"])).reshape(cases, *port["shape"])
        for k, port in enumerate(ports)
    ]
    return [[output[case] for output in stacked] for case in range(cases)]


def _dtype(name: str) -> Any:
    import ml_dtypes

    return getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else np.dtype(name)


def compare(answer: Sequence[Array], expected: Sequence[Array], *, rtol: float, atol: float) -> str:
    """Return how outputs differ from the expected ones, as the suite compares them; empty when they do not."""
    if len(answer) != len(expected):
        return f"{len(answer)} outputs in place of {len(expected)}"
    for number, (found, wanted) in enumerate(zip(answer, expected, strict=True)):
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            return (
                f"output {number} is {found.dtype} {list(found.shape)} in place of {wanted.dtype} {list(wanted.shape)}"
            )
        one, other, relative = found, wanted, rtol
        if found.dtype.name == "bfloat16":
            relative = max(rtol, 2**-6)
        if found.dtype.kind not in "biufc":
            one, other = found.astype(np.float32), wanted.astype(np.float32)
        if not np.allclose(one, other, rtol=relative, atol=atol, equal_nan=True):
            with np.errstate(all="ignore"):
                gap = np.abs(one.astype(np.float64) - other.astype(np.float64))
            count = int((~np.isclose(one, other, rtol=relative, atol=atol, equal_nan=True)).sum())
            return f"output {number}: {count} of {one.size} values differ, at most by {np.nanmax(gap, initial=0):.3g}"
    return ""


def runtime_verdict(form: Form) -> str:
    """Return what ONNX Runtime's CPU makes of a form: right, wrong or refused."""
    import onnxruntime

    from crossfarm.stages.prepare.onnx_session import open_session

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = open_session(lowered(form).SerializeToString(), options)
        for given, expected in form.data:
            answer = [np.asarray(value) for value in session.run(None, given)]
            if compare(answer, expected, rtol=form.case.rtol, atol=form.case.atol):
                return WRONG
    except Exception:  # its errors share no base class
        return REFUSED
    return RIGHT


def lowered(form: Form) -> Any:
    """Return a form's model in the versions that ONNX Runtime reads, where nothing in it needs newer ones."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(form.model)
    lower_format(model)
    with contextlib.suppress(ModelError):
        lower_operators(model)
    return model


def outcome(form: Form, *, runner: Path) -> Outcome:
    """Try one form."""
    started = time.perf_counter()
    runtime = runtime_verdict(form)
    status, reason = attempt(form, runner=runner)
    return Outcome(
        id=form.id,
        operator=form.case.operator,
        opset=form.case.opset,
        status=status,
        reason=reason,
        runtime=runtime,
        seconds=round(time.perf_counter() - started, 3),
    )
