"""Reads a Dockerfile: its instructions with their lines, and the files that it copies out of the context."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path

from crossfarm.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction, which the engine counts as one step.

    Attributes:
        line: where it begins, counted from 1.
        keyword: in capitals: `RUN`.
        arguments: the rest of it, its lines joined.
    """

    line: int
    keyword: str
    arguments: str


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile in their order; comments and empty lines are left out."""
    found: list[Instruction] = []
    words: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        start = start if words else number
        words.append(bare.removesuffix("\\").strip())
        if bare.endswith("\\"):
            continue
        keyword, _, rest = " ".join(words).partition(" ")
        found.append(Instruction(line=start, keyword=keyword.upper(), arguments=rest.strip()))
        words = []
    return found


def copied_files(path: Path, text: str) -> tuple[str, ...]:
    """Return the files that a Dockerfile copies, as paths below the project's folder, sorted.

    Args:
        path: of the Dockerfile, for messages.
        text: what stands in it.

    Raises:
        ConfigError: it copies something other than plain files with plain names. Such a context could not be known
            without asking the engine, and a folder may hold anything.
    """
    found: set[str] = set()
    for instruction in instructions(text):
        if instruction.keyword == "ADD":
            raise ConfigError(f"{path}:{instruction.line}: ADD is not known here; use COPY with the names of files")
        if instruction.keyword == "COPY":
            found.update(_sources(path, instruction))
    return tuple(sorted(found))


def _sources(path: Path, instruction: Instruction) -> Iterator[str]:
    where = f"{path}:{instruction.line}"
    words = _words(where, instruction.arguments)
    options = [word for word in words if word.startswith("--")]
    if any(option.startswith("--from") for option in options):
        return
    *sources, _ = [word for word in words if not word.startswith("--")] or [""]
    if not sources:
        raise ConfigError(f"{where}: COPY needs the names of files and where to put them")
    for source in sources:
        name = posixpath.normpath(source)
        if name.startswith(("/", "..")) or name == "." or any(character in name for character in "*?[$"):
            raise ConfigError(
                f"{where}: COPY {source}: name single files of the project's folder, without patterns and variables"
            )
        yield name


def _words(where: str, arguments: str) -> list[str]:
    if not arguments.startswith("["):
        return arguments.split()
    try:
        words = json.loads(arguments)
    except ValueError as error:
        raise ConfigError(f"{where}: {arguments} is no list in JSON's form: {error}") from error
    return [str(word) for word in words]
