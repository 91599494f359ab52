"""Hostile YAML for models, toolchains, pipelines and boards."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from crossfarm.backends.project_files import load_targets
from crossfarm.config.loading import load_boards, load_models, load_pipeline
from crossfarm.util.paths import HOME
from tests.fuzz.harness import Kind
from tests.fuzz.spoiling import spoil

MODELS = """\
defaults:
  checks: [{kind: similarity, tolerance: 1e-4}]
datasets:
  - {kind: rendered_text, name: lines, texts: ["12", "34"]}
models:
  - name: one
    licence: MIT
    source: {package: shared==1.0, sha256: "%(sha)s", path: one.onnx}
    inputs: [{name: x, shape: [1, 4]}]
  - name: two
    licence: MIT
    format: tflite
    source: {url: "https://example.org/two.tflite", sha256: "%(sha)s"}
    inputs: [{name: x, shape: [1, 3, 8, 8], dtype: uint8}]
    variants: [float32, int8]
    data: [lines]
    preprocess: {resize: {fit: [8, 8]}}
    skip: [{target: armv7, reason: "too large for the board"}]
""" % {"sha": "a" * 64}  # noqa: UP031
BOARDS = """\
boards:
  - name: pi
    address: 192.168.7.21
    port: 22
    user: farm
    key: id
    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOIqT0Qe6WZ1nYd1xJ2pTQ7T0cF0y1rWZ3n4x5C6v7B8
    targets: [armv7]
    tags: [slow]
"""
TOOLCHAINS = sorted((HOME / "toolchains").glob("*.yaml"))
PIPELINES = sorted((HOME / "pipelines").glob("*.yaml"))
NAMES = ("models", "toolchain", "pipeline", "boards")

SCALARS = (
    "~", "''", "[]", "{}", "-1", "0", "1e999", ".nan", "-.inf", "9" * 301, "0x" + "f" * 400, "1e-400", "true", "no",
    "2024-01-01", "12:30:45", '"\\0"', '"\\x1b[2J"', '"\\ud800"', '"\\u202e"', "!!python/object/apply:os.system [id]",
    "!!binary aGk=", "!!set {a}", "&a [*a]", "*nowhere", "<<: *a", "? [a]", "? {a: b}\n: c", "'../../../etc/passwd'",
    "/dev/zero", "'$(touch pwned)'", "'`touch pwned`'", "'; rm -rf x'", "-oProxyCommand=x", "a" * 70_000, "%x",
    "|", ">", "- - - -", "'a\nb'", "'é'", "'\U0001f4a5'", "file:///etc/passwd", "ssh://-x/", "[[[]]]",
)  # fmt: skip


def _bomb(rng: random.Random) -> str:
    width, depth = rng.randint(2, 12), rng.randint(3, 30)
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines)


def _deep(rng: random.Random) -> str:
    depth = rng.choice((30, 41, 200, 5_000, 100_000))
    return rng.choice(("[" * depth, "{a: " * depth, "- " * depth, "[" * depth + "]" * depth, "? " * depth))


def _wide(rng: random.Random) -> str:
    count = rng.choice((1_000, 50_000))
    return rng.choice(
        (
            "models: [" + ", ".join(["{}"] * count) + "]",
            "\n".join(f"k{n}: {n}" for n in range(count)),
            "models:\n" + "- name: x\n" * count,
            "k: v\n" * count,
        )
    )


def _text(rng: random.Random, text: str) -> str:
    """Return a text with some of its lines changed."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        match rng.randrange(7):
            case 0:
                before, separator, _ = line.partition(": ")
                lines[at : at + 1] = [before + separator + rng.choice(SCALARS)]
            case 1:
                lines[at : at + 1] = []
            case 2:
                lines.insert(at, line)
            case 3:
                lines[at : at + 1] = [" " * rng.randrange(5) + line]
            case 4:
                words = line.replace(":", " : ").split(" ")
                words[rng.randrange(len(words))] = rng.choice(SCALARS)
                lines[at : at + 1] = [" ".join(words)]
            case 5:
                letter = rng.randrange(len(line) + 1)
                lines[at : at + 1] = [line[:letter] + rng.choice("abcxyz_-: {}[]#&*!|>'\"%@`,\t") + line[letter:]]
            case _:
                other = rng.randrange(len(lines)) if lines else 0
                if lines:
                    lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines) + "\n"


def make(rng: random.Random, folder: Path) -> None:
    """Write NAME.yaml, where NAME says what it is to be read as."""
    name = rng.choice(NAMES)
    seeds = {"models": [MODELS], "boards": [BOARDS]}.get(name) or [
        path.read_text(encoding="utf-8") for path in (TOOLCHAINS if name == "toolchain" else PIPELINES)
    ]
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: _bomb(rng).encode(),
        lambda: _deep(rng).encode(),
        lambda: _wide(rng).encode(),
        lambda: rng.choice(seeds).encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))),
        lambda: b"".join(
            (rng.choice(seeds).encode(), rng.choice((b"---\n", b"...\n", b"%YAML 9.9\n", b"\0", b"\xc2\x85")))
        ),
        lambda: rng.randbytes(rng.choice((0, 1, 100, 10_000))),
    )
    chance = rng.random()
    if chance < 0.03:
        content = rng.choice(seeds).encode()
    elif chance < 0.6:
        content = _text(rng, rng.choice(seeds)).encode("utf-8", "surrogatepass")
    elif chance < 0.85:
        content = spoil(rng, rng.choice(seeds).encode())
    else:
        content = rng.choice(makers)()
    (folder / "toolchains").mkdir()
    place = folder / "toolchains" if name == "toolchain" else folder
    (place / f"{name}.yaml").write_bytes(content)


def feed(folder: Path) -> bool:
    """Load the file as what its name says."""
    if (folder / "models.yaml").exists():
        load_models(folder / "models.yaml")
    elif (folder / "boards.yaml").exists():
        load_boards(folder / "boards.yaml", targets={"armv7", "x86_64"})
    elif (folder / "pipeline.yaml").exists():
        load_pipeline(folder / "pipeline.yaml")
    else:
        load_targets(folder / "toolchains")
    return True


KIND = Kind(name="yaml", count=2000, make=make, feed=feed)
