"""What every bundle holds, whatever its backend: the inputs of all cases, and the manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.manifest import BundleFile, InputFile, Manifest, Sequence, WeightsFile
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.errors import BundleError

WEIGHTS = "weights.bin"


def copy_bundle(order: BundleOrder, *, files: Iterable[str], output: Path) -> None:
    """Make a bundle without linking anything: what was compiled, the inputs of all cases, and the manifest.

    Args:
        order: what goes into it.
        files: those of the artifact of `compile` that its board needs.
        output: an empty folder, which becomes the bundle.

    Raises:
        BundleError: compiled model and reference do not belong together.
    """
    report = CompileReport.read(order.compiled / "compile.json")
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    inputs = copy_inputs(report, document, order.reference, output)
    for name in files:
        shutil.copyfile(order.compiled / name, output / name)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__}
    write_manifest(output, cell=order.cell, report=report, document=document, inputs=inputs, provenance=provenance)


def write_manifest(
    output: Path,
    *,
    cell: Cell,
    report: CompileReport,
    document: Any,
    inputs: tuple[InputFile, ...],
    provenance: Mapping[str, str],
) -> None:
    """Write the manifest of a bundle whose other files are all there.

    Args:
        output: folder of the bundle.
        cell: names of what was built.
        report: what the backend says of the compiled model.
        document: reference.json, parsed.
        inputs: from `copy_inputs`.
        provenance: tool -> version.
    """
    weights = output / WEIGHTS
    Manifest(
        model=cell.model,
        target=cell.target,
        variant=cell.variant,
        cell=cell.id,
        identity=report.identity,
        cases=len(document["cases"]),
        inputs=inputs,
        outputs=report.outputs,
        sequences=sequences_of([bool(case.get("continues")) for case in document["cases"]]),
        weights=_weights(weights, report) if weights.exists() else None,
        files=tuple(_described(output)),
        unscheduled=report.unscheduled,
        left_in_float=report.left_in_float,
        work={cost.name: (cost.operations * cost.calls, cost.bytes) for cost in report.costs},
        provenance=dict(provenance),
    ).write(output / "manifest.json")


def copy_inputs(report: CompileReport, document: Any, reference: Path, output: Path) -> tuple[InputFile, ...]:
    """Copy the inputs of all cases, and return where each input lies; `document` is reference.json.

    Raises:
        BundleError: the reference was made for a model with other inputs.
    """
    expected = [(port.name, port.dtype, list(port.shape)) for port in report.inputs]
    found = [(port["name"], port["dtype"], port["shape"]) for port in document["inputs"]]
    if expected != found:
        raise BundleError(
            f"the compiled model takes {expected}, but the reference has {found}; the two were made from different "
            "models: make both again"
        )
    (output / "inputs").mkdir()
    files = []
    for number, port in enumerate(report.inputs):
        file = f"inputs/{number}.bin"
        described = document["inputs"][number]
        shutil.copyfile(reference / described["file"], output / file)
        files.append(
            InputFile(
                name=port.name, dtype=port.dtype, shape=port.shape, file=file, carry_from=described.get("carry_from")
            )
        )
    return tuple(files)


def sequences_of(continues: Iterable[bool]) -> tuple[Sequence, ...]:
    """Return the sequences of cases of which each says whether it continues the one before; the first never does."""
    starts: list[list[int]] = []
    for number, goes_on in enumerate(continues):
        if goes_on and starts:
            starts[-1][1] += 1
        else:
            starts.append([number, 1])
    return tuple(Sequence(first=first, cases=cases) for first, cases in starts if cases > 1)


def _weights(path: Path, report: CompileReport) -> WeightsFile:
    return WeightsFile(file=path.name, bytes=path.stat().st_size, arena_bytes=report.arena_bytes)


def _described(folder: Path) -> Iterable[BundleFile]:
    """Yield every file of a folder with its size and digest."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield BundleFile(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=digest)
