"""Builds the runner with a compiler of this machine, and makes bundles for the program that comes out."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossfarm.bundles.linking.runner_sources import LIBRARY_SOURCES, PROGRAM_SOURCES
from crossfarm.util.paths import HOME

RUNNER = HOME / "runner"
INCLUDES = tuple(f"-I{RUNNER / name}" for name in ("library", "program"))
HERE = Path(__file__).parent
WARNINGS = ("-std=c17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
MEMORY_SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREAD_SANITIZER = ("-g", "-O1", "-fsanitize=thread")

IDENTITY = "0123456789abcdef" * 4
WEIGHTS = np.linspace(0.5, 2.0, 16, dtype=np.float32)
FAIL, FAIL_SILENTLY, FAIL_IN_TASK, ASK_TOO_MUCH, ASK_TOO_OFTEN = range(1, 6)
RELEASE_WRONGLY, CROWD, UNEVEN, CRASH, TRAP = range(6, 11)
"""What `command`, the second input of sample_model.c, makes it do; 0 makes it work."""


def run(command: Sequence[str | Path], *, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said."""
    return subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


def build(folder: Path, sources: Sequence[Path], flags: Sequence[str], *, compiler: Sequence[str] = ("gcc",)) -> None:
    """Compile or link; a warning of the compiler is a failure."""
    command: list[str | Path] = [
        *compiler,
        *WARNINGS,
        *INCLUDES,
        *sources,
        *flags,
    ]  # libraries stand last
    done = run(command, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def library_sources() -> list[Path]:
    """Return the C files of the library, without a model."""
    return [RUNNER / "library" / name for name in LIBRARY_SOURCES]


def program_sources() -> list[Path]:
    """Return the C files of the program and the library, without a model."""
    return [*(RUNNER / "program" / name for name in PROGRAM_SOURCES), *library_sources()]


def weights_file(*, identity: str = IDENTITY, data: bytes = WEIGHTS.tobytes(), version: int = 1) -> bytes:
    """Return the weights file of sample_model.c."""
    return struct.pack("<8sIIQ32s8x", b"CFWEIGHT", version, 0, len(data), bytes.fromhex(identity)) + data


def expected_share(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the first output of sample_model.c for values of shape (cases, 2, 8)."""
    squares = np.square(values.reshape(-1, 16) * WEIGHTS)
    shares: np.ndarray[Any, Any] = squares / squares.sum(axis=1, keepdims=True)
    return shares.reshape(-1, 2, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle of sample_model.c, whole and good until a test spoils it.

    Attributes:
        folder: where it is.
        values: first input, float32 of shape (cases, 2, 8).
        environment: what the sanitizers are told.
    """

    folder: Path
    values: np.ndarray[Any, Any]
    environment: Mapping[str, str]

    @property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json says."""
        document: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return document

    def edit_manifest(self, change: Callable[[Any], object]) -> None:
        """Rewrite manifest.json after `change` has altered it."""
        document = copy.deepcopy(self.manifest)
        change(document)
        (self.folder / "manifest.json").write_text(json.dumps(document))

    def describe_files(self) -> None:
        """Bring sizes and digests of the manifest up to date."""
        rows = [
            {
                "path": path.relative_to(self.folder).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != "manifest.json"
        ]
        self.edit_manifest(lambda manifest: manifest.update(files=rows))

    def run(self, *options: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the program over this bundle."""
        command = [self.folder / "program", self.folder, *options]
        return run(command, env={**os.environ, **self.environment})

    def refusal(self, *options: str | Path, code: int = 3) -> str:
        """Return the one line with which the program refuses."""
        done = self.run(*options)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("program: ")
        return lines[0].removeprefix("program: ")

    def result(self, *options: str | Path) -> Any:
        """Return the result of a good run."""
        done = self.run(*options)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


def make_bundle(folder: Path, program: Path, *, cases: int = 3, command: int = 0) -> Bundle:
    """Write a bundle around a program that was built from sample_model.c."""
    values = np.random.default_rng(7).standard_normal((cases, 2, 8)).astype(np.float32)
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs/0.bin").write_bytes(values.tobytes())
    (folder / "inputs/1.bin").write_bytes(np.full((cases, 1), command, dtype=np.int32).tobytes())
    (folder / "weights.bin").write_bytes(weights_file())
    (folder / "program").hardlink_to(program)
    manifest = {
        "format": 1,
        "model": "sample",
        "target": "host",
        "variant": "float32",
        "cell": "host-sample-float32",
        "identity": IDENTITY,
        "cases": cases,
        "inputs": [
            {"name": "values", "dtype": "float32", "shape": [2, 8], "file": "inputs/0.bin"},
            {"name": "command", "dtype": "int32", "shape": [1], "file": "inputs/1.bin"},
        ],
        "outputs": [
            {"name": "share", "dtype": "float32", "shape": [2, 8]},
            {"name": "echo", "dtype": "int32", "shape": []},
            {"name": "weights", "dtype": "float32", "shape": [16]},
        ],
        "weights": {"file": "weights.bin", "bytes": 128, "arena_bytes": 256},
        "files": [],
        "provenance": {"tvm": "0.27.0"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = Bundle(folder=folder, values=values, environment={"ASAN_OPTIONS": "allocator_may_return_null=1"})
    bundle.describe_files()
    return bundle
