"""Makes a bundle: links the compiled model with the runner, and puts beside it all that a run on a board needs."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.backends.manifest import BundleFile, CompileReport, InputFile, Manifest, WeightsFile
from crossfarm.backends.runner_sources import EXPORTS, LIBRARY_SOURCES, PROGRAM_SOURCES, PUBLIC_HEADER, RUNNER_SOURCES
from crossfarm.backends.toolchain import Toolchain, tool_version
from crossfarm.errors import BundleError
from crossfarm.spec.cells import Cell
from crossfarm.spec.targets import CommandCompiler, ZigCompiler

PROGRAM = "program"
_TABLES = "model_tables.c"
_OBJECT = "model_code.o"


def make_bundle(
    *,
    cell: Cell,
    compiler: ZigCompiler | CommandCompiler,
    static: bool,
    compiled: Path,
    reference: Path,
    runner: Path,
    output: Path,
) -> None:
    """Write a bundle; see protocol.Backend.bundle."""
    report = CompileReport.read(compiled / "compile.json")
    cases, inputs = _copy_inputs(report, reference, output)
    with tempfile.TemporaryDirectory(prefix="crossfarm-link-") as folder:
        work = Path(folder)
        _stage(work, compiled=compiled, runner=runner)
        names = _build(Toolchain(compiler=compiler, static=static, folder=work), model=cell.model)
        for name in (*names, PUBLIC_HEADER):
            shutil.copyfile(work / name, output / name)
    (output / PROGRAM).chmod(0o755)
    weights = output / "weights.bin"
    shutil.copyfile(compiled / "weights.bin", weights)
    Manifest(
        model=cell.model,
        target=cell.target,
        variant=cell.variant,
        cell=cell.id,
        identity=report.identity,
        cases=cases,
        inputs=inputs,
        outputs=report.outputs,
        weights=WeightsFile(file=weights.name, bytes=weights.stat().st_size, arena_bytes=report.arena_bytes),
        files=tuple(_described(output)),
        provenance={**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(compiler)},
    ).write(output / "manifest.json")


def _stage(work: Path, *, compiled: Path, runner: Path) -> None:
    """Bring all sources into one folder, where they have names that are the same everywhere."""
    for name in RUNNER_SOURCES:
        shutil.copyfile(runner / name, work / name)
    shutil.copyfile(compiled / "tables.c", work / _TABLES)
    shutil.copyfile(compiled / "model.o", work / _OBJECT)


def _build(toolchain: Toolchain, *, model: str) -> list[str]:
    """Compile and link in the toolchain's folder, and return the names of what goes into the bundle."""
    objects = {name: f"{Path(name).stem}.o" for name in (*LIBRARY_SOURCES, *PROGRAM_SOURCES, _TABLES)}
    for source, name in objects.items():
        toolchain.compile(source, name)
    library = [_OBJECT, objects[_TABLES], *(objects[name] for name in LIBRARY_SOURCES)]
    made = [PROGRAM, f"lib{model}.a"]
    toolchain.link_program([*(objects[name] for name in PROGRAM_SOURCES), *library], PROGRAM)
    toolchain.archive(library, f"lib{model}.a")
    if not toolchain.static:
        toolchain.link_library(library, f"lib{model}.so", exports=EXPORTS)
        made.append(f"lib{model}.so")
    return made


def _copy_inputs(report: CompileReport, reference: Path, output: Path) -> tuple[int, tuple[InputFile, ...]]:
    """Copy the inputs of all cases, and return the number of cases and where each input lies.

    Raises:
        BundleError: the reference was made for a model with other inputs.
    """
    document: Any = json.loads((reference / "reference.json").read_text(encoding="utf-8"))
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
        shutil.copyfile(reference / document["inputs"][number]["file"], output / file)
        files.append(InputFile(name=port.name, dtype=port.dtype, shape=port.shape, file=file))
    return len(document["cases"]), tuple(files)


def _described(folder: Path) -> Iterable[BundleFile]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield BundleFile(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=digest)
