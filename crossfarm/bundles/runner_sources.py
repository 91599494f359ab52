"""Which files of runner/ form the library and the program. A test compares them with the folder."""

from __future__ import annotations

LIBRARY_SOURCES = ("check_tables.c", "division.c", "errors.c", "model.c", "parallel.c", "weights.c", "workspace.c")
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
RUNNER_SOURCES = (
    *LIBRARY_SOURCES,
    *PROGRAM_SOURCES,
    *SERVER_SOURCES,
    PUBLIC_HEADER,
    EXPORTS,
    "bundle.h",
    "document.h",
    "json.h",
    "measure.h",
    "model_tables.h",
    "options.h",
    "result.h",
    "runtime.h",
    "sha256.h",
    "tvm_abi.h",
)
