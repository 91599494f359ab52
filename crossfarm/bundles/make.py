"""Makes a bundle: links the compiled model with the runner, and puts beside it all that a run on a board needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.linking.c_compiler import Toolchain, tool_version
from crossfarm.bundles.linking.runner_objects import OWN, compile_all, object_names
from crossfarm.bundles.linking.runner_sources import (
    EXPORTS,
    LIBRARY_SOURCES,
    PROGRAM_SOURCES,
    PUBLIC_HEADER,
    SERVER_SOURCES,
    copy_sources,
)
from crossfarm.bundles.manifest import BundleFile, InputFile, Manifest, Sequence, WeightsFile
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.errors import BundleError
from crossfarm.util.scratch import scratch_folder

PROGRAM = "program"
WEIGHTS = "weights.bin"
SERVER = "server"
"""In place of the shared library where linkage is static."""
_TABLES = "model_tables.c"
_OBJECT = "model_code.o"


def make_bundle(order: BundleOrder, *, output: Path) -> None:
    """Write a bundle; see protocol.Backend.bundle."""
    cell, compiler = order.cell, order.compiler
    report = CompileReport.read(order.compiled / "compile.json")
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    inputs = copy_inputs(report, document, order.reference, output)
    with scratch_folder("link") as folder:
        work = Path(folder)
        _stage(work, order)
        names = _build(Toolchain(compiler=compiler, static=order.static, folder=work), model=cell.model)
        for name in (*names, PUBLIC_HEADER):
            shutil.copyfile(work / name, output / name)
    for name in {PROGRAM, SERVER} & set(names):
        (output / name).chmod(0o755)
    shutil.copyfile(order.compiled / WEIGHTS, output / WEIGHTS)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(compiler)}
    write_manifest(output, cell=cell, report=report, document=document, inputs=inputs, provenance=provenance)


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
        weights=WeightsFile(file=weights.name, bytes=weights.stat().st_size, arena_bytes=report.arena_bytes),
        files=tuple(_described(output)),
        unscheduled=report.unscheduled,
        left_in_float=report.left_in_float,
        provenance=dict(provenance),
    ).write(output / "manifest.json")


def _stage(work: Path, order: BundleOrder) -> None:
    """Bring all sources and objects into one folder, where they have names that are the same everywhere."""
    copy_sources(order.runner, work)
    for path in order.objects.iterdir():
        shutil.copyfile(path, work / path.name)
    shutil.copyfile(order.compiled / "tables.c", work / _TABLES)
    shutil.copyfile(order.compiled / "model.o", work / _OBJECT)


def _build(toolchain: Toolchain, *, model: str) -> list[str]:
    """Compile the tables and link in the toolchain's folder; return the names of what goes into the bundle."""
    programs = {PROGRAM: PROGRAM_SOURCES, **({SERVER: SERVER_SOURCES} if toolchain.static else {})}
    library = [_OBJECT, *compile_all(toolchain, [_TABLES]), *object_names(LIBRARY_SOURCES)]
    linker = toolchain.for_programs()
    shared = library
    if linker is not toolchain:
        shared = [_OBJECT, *compile_all(linker, [_TABLES], OWN), *object_names(LIBRARY_SOURCES, OWN)]
    for program, names in programs.items():
        linker.link_program([*object_names(names), *shared], program)
    made = [*programs, f"lib{model}.a"]
    toolchain.archive(library, f"lib{model}.a")
    if not toolchain.static:
        toolchain.link_library(library, f"lib{model}.so", exports=EXPORTS)
        made.append(f"lib{model}.so")
    return made


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


def _described(folder: Path) -> Iterable[BundleFile]:
    """Yield every file of a folder with its size and digest."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield BundleFile(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=digest)
