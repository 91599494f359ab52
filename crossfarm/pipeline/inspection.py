"""Looks at models before they are compiled: what they take and give, and what would be refused, and why."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.config.models import Model
from crossfarm.config.project import Project
from crossfarm.errors import ConfigError, CrossfarmError, nearest
from crossfarm.pipeline.declared import load
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.pipeline.run import run_planned
from crossfarm.reports import RESULTS
from crossfarm.results import JobRecord, read_records
from crossfarm.store.store import Store

if TYPE_CHECKING:
    from crossfarm.stages.prepare.static_onnx import StaticInput

_IMPORTING = ("tvm", "mcu")
"""Backends whose compiler takes what `crossfarm.backends.tvm` imports; others say by themselves what they refuse."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspected:
    """What is known of one model.

    Attributes:
        name: of the model.
        place: `models.yaml:12`, or the path of its file.
        signature: inputs, outputs, parameters, nodes, opset; None when it cannot be prepared.
        targets: for which the refusals hold.
        refused: why it, or a node of it, cannot be compiled.
    """

    name: str
    place: str
    signature: dict[str, Any] | None
    targets: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def inspect_models(options: Options, name: str) -> Iterator[Inspected]:
    """Prepare one model of models.yaml, or all, and look at each.

    Args:
        options: which models.yaml, pipeline, targets and store.
        name: of the model; empty for all of the pipeline.

    Raises:
        ConfigError: there is no such model.
    """
    project = load(options)
    names = [model.name for model in project.models_file.models]
    if name and name not in names:
        raise ConfigError(
            f"models.yaml has no model {name!r}{nearest(name, names)}; give its name, or the path of a file"
        )
    with tempfile.TemporaryDirectory() as out:
        only = (f"*-{name}-*",) if name else ()
        selection = dataclasses.replace(options.selection, only=only, stages=("prepare",))
        wanted = dataclasses.replace(
            options, selection=selection, out=Path(out), quiet=True, history="none", boards=(), boards_file=None
        )
        with contextlib.redirect_stdout(io.StringIO()):  # what failed is told below, in our words
            _, plan = run_planned(wanted)
        causes = {
            record.model: record.cause or ""
            for record in read_records(Path(out) / RESULTS)
            if isinstance(record, JobRecord) and record.model and record.state in ("failed", "cancelled")
        }
    store = Store(options.store.absolute())
    for model in project.models_file.models:
        job = plan.jobs.get(f"prepare:{model.name}")
        if job is None:
            continue
        artifact = store.read(job.key)
        place = f"{project.models_path.name}:{project.lines[model.name]}"
        if artifact is None or model.name in causes:
            why = causes.get(model.name) or "it was not prepared; ./inv pipeline --stages prepare tells why"
            yield Inspected(name=model.name, place=place, signature=None, refused=(why,))
            continue
        signature = json.loads(store.file_path(artifact, "signature.json").read_text(encoding="utf-8"))
        targets = _targets(project, model, options.selection)
        refused = tuple(_refused(store.file_path(artifact, "model.onnx"))) if targets else ()
        yield Inspected(name=model.name, place=place, signature=signature, targets=targets, refused=refused)


def _targets(project: Project, model: Model, selection: Selection) -> tuple[str, ...]:
    """Return the targets of the pipeline that the model is built for by TVM."""
    skipped = {item.target for item in model.skip}
    names = selection.targets or project.pipeline.targets
    return tuple(name for name in names if name not in skipped and project.targets[name].backend in _IMPORTING)


def _refused(path: Path) -> list[str]:
    import onnx

    from crossfarm.backends.tvm.inspection import refusals

    return refusals(onnx.load(path, load_external_data=False))


def inspect_file(path: Path, shapes: dict[str, tuple[int, ...]]) -> tuple[Inspected, str]:
    """Look at an ONNX file that stands in no models.yaml.

    Args:
        path: of the file.
        shapes: of its inputs, where it leaves them open.

    Returns:
        What is known, and the entry of models.yaml that would declare it.

    Raises:
        ConfigError: the file cannot be read, or a shape is for another input than it has.
        ModelError: it is no ONNX file.
    """
    from crossfarm.stages.prepare.external_data import read_from_folder
    from crossfarm.stages.prepare.static_onnx import make_bounded, parse, signature

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the name of a model, or the path of an ONNX file") from error
    inputs = _inputs(parse(content), shapes)
    entry = _entry(path, inputs)
    try:
        made = make_bounded(content, inputs, read_external=read_from_folder(path.parent)).model
        from crossfarm.backends.tvm.inspection import refusals

        refused = refusals(made)
    except CrossfarmError as error:
        return Inspected(name=path.stem, place=str(path), signature=None, refused=(str(error),)), entry
    return Inspected(name=path.stem, place=str(path), signature=signature(made), refused=tuple(refused)), entry


def _inputs(model: Any, shapes: dict[str, tuple[int, ...]]) -> list[StaticInput]:
    """Return the inputs of a model, a batch of open size as 1.

    Raises:
        ConfigError: another extent is open, or a shape is for no input.
    """
    import onnx

    from crossfarm.stages.prepare.static_onnx import StaticInput

    initialised = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in initialised]
    names = [port.name for port in ports]
    for name in shapes:
        if name not in names:
            raise ConfigError(f"--shapes: there is no input {name!r}{nearest(name, names)}; inputs: {', '.join(names)}")
    found = []
    for port in ports:
        tensor = port.type.tensor_type
        extents = [extent.dim_value if extent.HasField("dim_value") else 0 for extent in tensor.shape.dim]
        if extents and extents[0] == 0:
            extents[0] = 1
        shape = shapes.get(port.name, tuple(extents))
        if 0 in shape:
            shown = "x".join(str(extent or "?") for extent in shape)
            raise ConfigError(
                f"input {port.name!r} has open extents ({shown}), and compiled code has fixed ones: say "
                f"--shapes '{port.name}={shown.replace('?', 'N')}' with a number in place of each N"
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        found.append(StaticInput(name=port.name, shape=shape, dtype=str(dtype)))
    return found


def _entry(path: Path, inputs: list[StaticInput]) -> str:
    name = "".join(letter if letter.isalnum() else "_" for letter in path.stem.lower()).strip("_")
    lines = [f"  - name: {name or 'model'}", "    licence: ...", f"    source: {{file: {json.dumps(path.name)}}}"]
    lines.append("    inputs:")
    for item in inputs:
        kind = "" if item.dtype == "float32" else f", dtype: {item.dtype}"
        lines.append(f"      - {{name: {json.dumps(item.name)}, shape: {list(item.shape)}{kind}}}")
    return "\n".join(lines)
