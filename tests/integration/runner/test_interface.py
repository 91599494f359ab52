"""The public interface: usable from C99 and C++, hidden inside, and equal to TVM's where it meets TVM's code."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.integration.runner.building import (
    HERE,
    MEMORY_SANITIZERS,
    RUNNER,
    WEIGHTS,
    build,
    library_sources,
    run,
    weights_file,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "command",
    [["gcc", "-x", "c", "-std=c99"], ["g++", "-x", "c++", "-std=c++11"], ["g++", "-x", "c++", "-std=c++20"]],
    ids=" ".join,
)
def test_the_header_stands_alone(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed; apt-get install {command[0]}")
    done = run([*command, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", RUNNER / "library/model.h"])
    assert (done.returncode, done.stderr) == (0, "")


def headers_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent / "include"


def test_the_binary_interface_is_that_of_tvm_s_headers(tmp_path: Path) -> None:
    folders = [f"-isystem{headers_of(package)}" for package in ("tvm", "tvm_ffi")]
    (tmp_path / "tvm/runtime").mkdir(parents=True)
    (tmp_path / "tvm/runtime/base.h").write_text("#define TVM_RUNTIME_DLL\n")  # TVM's own is C++
    build(tmp_path, [HERE / "abi_check.c"], [f"-I{tmp_path}", *folders, "-fsyntax-only"])


def test_wrong_calls_are_answered_and_right_ones_describe_the_model(tmp_path: Path) -> None:
    driver = tmp_path / "misuse"
    sources = [HERE / "misuse_driver.c", HERE / "sample_model.c", *library_sources()]
    build(tmp_path, sources, [*MEMORY_SANITIZERS, "-o", str(driver), "-pthread"])
    (tmp_path / "weights.bin").write_bytes(weights_file())
    done = run([driver, "weights.bin"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[]",
        "2 null crossfarm_model_open needs a weights file and a place for the handle",
        "3 null missing.bin: cannot be opened: No such file or directory",
        "3 null .: not a regular file",
        "2 null 257 threads asked for, at most 256 are possible",
        "2 null processor_count is 1, but there is no list of processors",
        "2 null processor 4000 cannot be used: Invalid argument",
        "2",
        "values float32 2 64",
        "command int32 1 4",
        "share float32 2 64 shape",
        "echo int32 0 4 no shape",
        "weights float32 1 64 shape",
        "2 3",
        "256 64",
        "host unknown",
    ]


def test_a_run_in_the_model_s_own_memory_has_the_same_outputs(tmp_path: Path) -> None:
    driver = tmp_path / "in_place"
    sources = [HERE / "in_place_driver.c", HERE / "sample_model.c", *library_sources()]
    build(tmp_path, sources, [*MEMORY_SANITIZERS, "-o", str(driver), "-pthread"])
    (tmp_path / "weights.bin").write_bytes(weights_file())
    done = run([driver, "weights.bin"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 0 0"] * 3


def build_library(folder: Path, name: str, identity: str) -> Path:
    """Build libNAME.so with the flags of a bundle, of sample_model.c under another name."""
    library = folder / f"lib{name}.so"
    macros = [f'-DMODEL_NAME="{name}"', f'-DIDENTITY="{identity}"']
    flags = ["-O2", "-fPIC", "-fvisibility=hidden", "-shared", f"-Wl,--version-script={RUNNER / 'library/model.map'}"]
    build(folder, [HERE / "sample_model.c", *library_sources()], [*macros, *flags, "-o", str(library), "-pthread"])
    return library


def test_a_shared_library_shows_the_public_functions_alone(tmp_path: Path) -> None:
    library = build_library(tmp_path, "one", "a" * 64)
    done = run(["nm", "--dynamic", "--defined-only", library])
    shown = sorted(line.split()[-1] for line in done.stdout.splitlines())
    declared = (RUNNER / "library/model.h").read_text()
    assert len(shown) == declared.count("\nCROSSFARM_API ")
    assert all(name.startswith("crossfarm_model_") and f"{name}(" in declared for name in shown)


def test_two_models_live_in_one_process(tmp_path: Path) -> None:
    arguments: list[str | Path] = []
    for name, digit, weights in (("one", "a", WEIGHTS), ("two", "b", WEIGHTS[::-1])):
        arguments.append(build_library(tmp_path, name, digit * 64))
        arguments.append(tmp_path / f"{name}.bin")
        (tmp_path / f"{name}.bin").write_bytes(weights_file(identity=digit * 64, data=weights.tobytes()))
    driver = tmp_path / "two_models"
    build(tmp_path, [HERE / "two_models_driver.c"], ["-o", str(driver), "-ldl", "-pthread"])
    done = run([driver, *arguments])
    share = WEIGHTS**2 / (WEIGHTS**2).sum()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"one {share[15]:.6f} 2.00", f"two {share[0]:.6f} 0.50"]
