"""The linker for ARM hosts that MERA calls: zig under GCC's name, whose cache goes into the sandbox filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.util.mera.cross_linker import NAME, write_cross_linker, zig_folder
from crossfarm.util.tool_sandbox import run_sandboxed

pytestmark = pytest.mark.integration

MOST_SECONDS = 5
"""Of processor time; without its cache zig first builds what belongs to a C library, for half a minute."""


def test_it_links_in_the_sandbox_without_building_a_c_library_first(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    write_cross_linker(folder / "programs")
    (folder / "code.c").write_text("int twice(int value) { return 2 * value; }\n")
    zig = str(zig_folder() / "zig")
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "made"), "ZIG_LOCAL_CACHE_DIR": str(folder / "made")}
    compiled = run_sandboxed(
        [zig, "cc", "-target", "aarch64-linux-gnu.2.17", "-fPIC", "-c", "code.c", "-o", "code.o"],
        folder=folder,
        reads=(zig_folder(),),
        processor_seconds=60,
        variables=cache,
    )
    assert compiled.returncode == 0, compiled.stdout
    linked = run_sandboxed(
        [str(folder / "programs" / NAME), "-shared", "-fPIC", "-o", "deploy.so", "code.o"],
        folder=folder,
        reads=(zig_folder(),),
        processor_seconds=MOST_SECONDS,
    )
    assert linked.returncode == 0, linked.stdout
    assert (folder / "deploy.so").read_bytes()[18] == 183, "what ELF calls AArch64"
