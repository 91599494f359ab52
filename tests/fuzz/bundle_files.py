"""Hostile bundles for the runner, which is built with sanitizers: manifest, weights, inputs, good and bad digests."""

from __future__ import annotations

import atexit
import copy
import functools
import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.harness import HarmError, Kind
from tests.fuzz.spoiling import spoil
from tests.integration.runner.building import HERE, MEMORY_SANITIZERS, build, make_bundle, program_sources

CODES = range(6)
"""Exit codes that the program has: good, usage, bundle, model, machine."""
SANITIZER = 99
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63 - 1, 2**64, -(2**63), 1e308, 0.5, "", "x", "a\0b", "a\nb", "\x1b[2J", "../x",
    "/etc/passwd", "/dev/zero", "x" * 100_000, "é", [], {}, [[]], [1] * 10_000, {"a": {}}, [2, 8], "weights.bin",
)  # fmt: skip


@functools.cache
def _folder() -> Path:
    """Return a folder that goes when this process ends; forked processes leave by os._exit and remove nothing."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-runner-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _program() -> Path:
    build(_folder(), program_sources(), [*MEMORY_SANITIZERS, "-c"])
    program = _folder() / "program"
    flags = [*MEMORY_SANITIZERS, "-o", str(program), "-pthread"]
    build(_folder(), [HERE / "sample_model.c", *sorted(_folder().glob("*.o"))], flags)
    return program


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values of a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _edit(rng: random.Random, document: Any) -> None:
    *parents, last = rng.choice(_places(document))
    for parent in parents:
        document = document[parent]
    match rng.randrange(4):
        case 0:
            del document[last]
        case 1 if isinstance(document, list):
            document.insert(last, copy.deepcopy(document[last]))
        case _:
            document[last] = copy.deepcopy(rng.choice(VALUES))


def make(rng: random.Random, folder: Path) -> None:
    """Write a bundle; its program is a link to the one that all share, and nothing writes to it."""
    program = _program()
    bundle = make_bundle(folder / "bundle", program, cases=rng.choice((1, 3)))
    for name in ("weights.bin", "inputs/0.bin"):
        if rng.random() < 0.4:
            path = bundle.folder / name
            path.write_bytes(spoil(rng, path.read_bytes(), most=3))
    if rng.random() < 0.5:
        bundle.describe_files()
    manifest = bundle.folder / "manifest.json"
    chance = rng.random()
    if chance < 0.5:
        document = json.loads(manifest.read_text())
        for _ in range(rng.randint(1, 3)):
            _edit(rng, document)
        manifest.write_text(json.dumps(document))
    elif chance < 0.85:
        manifest.write_bytes(spoil(rng, manifest.read_bytes()))
    elif chance < 0.9:
        manifest.write_text(rng.choice(("[", '{"a":', "[[", '"')) * rng.choice((1, 100, 100_000)))


def feed(folder: Path) -> bool:
    """Run the program over the bundle, with digests looked at or not, and look at what it says."""
    environment = {
        **os.environ,
        "ASAN_OPTIONS": f"allocator_may_return_null=1:exitcode={SANITIZER}",
        "UBSAN_OPTIONS": f"halt_on_error=1:exitcode={SANITIZER}",
    }
    best = max(CODES)
    for options in ((), ("--no-verify", "--repeat", "1", "--outputs", str(folder / "outputs"))):
        done = subprocess.run(
            [_program(), folder / "bundle", *options], env=environment, capture_output=True, check=False
        )
        text = done.stderr.decode(errors="replace")
        if done.returncode not in CODES or "Sanitizer" in text or "runtime error" in text:
            raise HarmError(f"the program ended with {done.returncode}: {text[:2000]}")
        if done.returncode and (text.count("\n") != 1 or len(text) > 2000 or not text[:-1].isprintable()):
            raise HarmError(f"not one readable line: {text[:500]!r}")
        best = min(best, done.returncode)
    return best == 0


KIND = Kind(name="bundles", count=2000, make=make, feed=feed, memory=None)
