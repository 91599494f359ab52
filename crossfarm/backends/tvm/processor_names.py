"""Asks LLVM for its names of processors and features, and writes them where the spec reads them without LLVM.

As a program: `python -m crossfarm.backends.tvm.processor_names` rewrites crossfarm/config/processor_names.json.
"""

from __future__ import annotations

import json
import re
import sys

from crossfarm.config.processor_names import FAMILIES, TABLE
from crossfarm.errors import ToolError
from crossfarm.util.processes import run_tool

_ASKING = """
import sys, tvm
target = tvm.target.Target({"kind": "llvm", "mtriple": sys.argv[1], "mcpu": "generic", "mattr": ["+help"]})
tvm.get_global_func("target.llvm_get_cpu_features")(target)
"""
"""LLVM answers the feature `help` with all it knows, on standard error; TVM's own functions list less."""
_NAME = re.compile(r"  ([^ ]+) +- ")


def llvm_names(triple: str) -> dict[str, list[str]]:
    """Return the names that the LLVM inside TVM knows for an architecture: {"cpus": [...], "features": [...]}, sorted.

    Args:
        triple: of the architecture: `aarch64-linux-gnu`.

    Raises:
        ToolError: LLVM gave no lists.
    """
    asked = run_tool([sys.executable, "-c", _ASKING, triple])
    before, cpus, rest = asked.stderr.partition("Available CPUs for this target:\n")
    listed, features, rest = rest.partition("Available features for this target:\n")
    if asked.returncode or not cpus or not features:
        raise ToolError(f"LLVM lists no processors for {triple}: {before.strip()[-300:]}; is apache-tvm installed?")
    return {"cpus": _names(listed), "features": _names(rest)}


def table() -> dict[str, dict[str, list[str]]]:
    """Return the names of every family of architectures that toolchain files may name."""
    return {name: llvm_names(family.triple) for name, family in FAMILIES.items()}


def text() -> str:
    """Return the content of the spec's table."""
    return json.dumps(table(), indent=0, sort_keys=True) + "\n"


def _names(lines: str) -> list[str]:
    return sorted({found[1] for line in lines.splitlines() if (found := _NAME.match(line))})


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="ascii")
