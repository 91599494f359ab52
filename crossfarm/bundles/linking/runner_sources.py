"""Which files of runner/ form the library and the program. A test compares them with the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from crossfarm.util.paths import HOME

RUNNER = HOME / "runner"
"""The folder that they stand in, beside the package, wherever models.yaml stands."""
LIBRARY_SOURCES = (
    "check_tables.c",
    "compiler_functions.c",
    "errors.c",
    "model.c",
    "parallel.c",
    "weights.c",
    "workspace.c",
)
"""With the model's own tables and object: libMODEL."""
PROGRAM_SOURCES = (
    "bundle.c",
    "document.c",
    "json.c",
    "main.c",
    "manifest.c",
    "measure.c",
    "options.c",
    "result.c",
    "sha256.c",
)
"""Beside the library: the program that runs a bundle."""
SERVER_SOURCES = ("serve.c",)
"""Beside the library: the program that stands in for a shared library."""
PUBLIC_HEADER = "model.h"
EXPORTS = "model.map"
"""Version script of the shared library."""
_LIBRARY_HEADERS = (PUBLIC_HEADER, "model_tables.h", "runtime.h", "tvm_abi.h")
_PROGRAM_HEADERS = ("bundle.h", "document.h", "json.h", "measure.h", "options.h", "result.h", "sha256.h")
HEADERS = (*_LIBRARY_HEADERS, *_PROGRAM_HEADERS)
RUNNER_SOURCES = (
    *(f"library/{name}" for name in (*LIBRARY_SOURCES, *_LIBRARY_HEADERS, EXPORTS)),
    *(f"program/{name}" for name in (*PROGRAM_SOURCES, *_PROGRAM_HEADERS)),
    *(f"server/{name}" for name in SERVER_SOURCES),
)
"""All of them, below runner/. No two have the same name, since they are compiled in one folder."""


def copy_sources(runner: Path, folder: Path) -> None:
    """Copy all sources from runner/ into one folder, in which they include each other by name."""
    for name in RUNNER_SOURCES:
        shutil.copyfile(runner / name, folder / Path(name).name)
