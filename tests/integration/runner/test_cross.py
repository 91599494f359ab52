"""The runner builds without a warning for every target, and runs there: one program of sample_model.c each."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.config.targets import Target, ZigCompiler
from crossfarm.util.paths import HOME
from tests.integration.runner.building import HERE, build, expected_share, make_bundle, program_sources, run

pytestmark = pytest.mark.integration

TARGETS = {
    name: target
    for name, target in load_targets(HOME / "toolchains").items()
    if target.instructions is not None and not target.is_freestanding
}
"""Those whose bundles hold the runner."""


@pytest.fixture(scope="session", params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


@pytest.fixture(scope="session")
def program(target: Target, runner_folder: Path) -> Path:
    """Return the program of sample_model.c for the target, built as a bundle's is."""
    made = runner_folder / f"program-{target.name}"
    flags = ["-O2", "-fvisibility=hidden", "-pthread", "-o", str(made)]
    if isinstance(target.compiler, ZigCompiler):
        pytest.importorskip("ziglang")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target.compiler.target, *target.compiler.flags]
        flags.append("-fno-sanitize=undefined")
    else:
        compiler = [*target.compiler.command, *target.compiler.flags]
        if shutil.which(compiler[0]) is None:
            pytest.skip(f"{target.name} needs {compiler[0]}")
    if target.linkage == "static":
        flags.append("-static")
    build(runner_folder, [HERE / "sample_model.c", *program_sources()], flags, compiler=compiler)
    return made


def emulation(target: Target) -> list[str]:
    if platform.machine() in target.machine:
        return []
    assert target.emulator is not None
    found = [path for name in target.emulator.names if (path := shutil.which(name)) is not None]
    if not found:
        pytest.skip(f"{target.name} needs {target.emulator.package}")
    libraries = [Path(part) for part in target.emulator.command if part.startswith("/")]
    if not all(folder.is_dir() for folder in libraries):
        pytest.skip(f"{target.name} needs the C library of the target in {libraries[0]}")
    return [found[0], *target.emulator.command[1:]]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_program_answers_rightly_on_every_target(
    target: Target, program: Path, threads: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", program)
    options: list[str | Path] = ["--outputs", tmp_path / "outputs", "--threads", threads, "--repeat", "3"]
    done = run([*emulation(target), bundle.folder / "program", bundle.folder, *options])
    assert (done.returncode, done.stderr) == (0, "")
    share = np.frombuffer((tmp_path / "outputs/0.bin").read_bytes(), dtype=np.float32).reshape(-1, 2, 8)
    np.testing.assert_allclose(share, expected_share(bundle.values), rtol=1e-6)


def test_a_corrupt_file_is_found_on_every_target(target: Target, program: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", program)
    (bundle.folder / "inputs/0.bin").write_bytes(bytes(192))
    done = run([*emulation(target), bundle.folder / "program", bundle.folder])
    assert done.returncode == 3
    assert done.stderr.startswith("program: inputs/0.bin: corrupt, sha256 ")
