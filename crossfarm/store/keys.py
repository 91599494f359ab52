"""Keys: what names an artifact before it exists.

A key is the sha256 of a key document: stage, version, parameters, source digests, input keys, image and tool versions.
The document is kept beside the artifact, so that the next plan can say in what a key differs from the last one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from crossfarm.util.quick_init import quick_init

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


_VERSION = re.compile(r"^Version: *(\S+) *$", re.MULTILINE)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no blanks, ASCII only.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.
        TypeError: a value is not JSON.
    """
    return _CANONICAL.encode(value)


def digest_json(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyDocument:
    """All that a key depends on.

    Attributes:
        stage: name of the stage.
        version: the stage's VERSION.
        parameters: group name -> sha256 of the group's canonical JSON. The groups themselves stand in `Groups`.
        sources: sha256 over the stage's source files.
        inputs: role -> key of the input's artifact.
        image: digest of the image in which the job runs, or "host".
        tools: distribution -> version.
    """

    stage: str
    version: int
    parameters: Mapping[str, str]
    sources: str
    inputs: Mapping[str, str]
    image: str
    tools: Mapping[str, str]

    def key(self) -> str:
        """Return the key: sha256 over an unambiguous text of this document, the order of its mappings left out."""
        text = KeyText.of(self.stage, self.version, self.sources, self.image, self.tools)
        return text.key(self.parameters, self.inputs)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "stage": self.stage,
            "version": self.version,
            "parameters": dict(self.parameters),
            "sources": self.sources,
            "inputs": dict(self.inputs),
            "image": self.image,
            "tools": dict(self.tools),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyText:
    """Makes keys of documents that differ in their parameters and inputs alone; `of` makes one.

    Attributes:
        head: the text before the parameters.
        middle: between them and the inputs.
        tail: behind those.
    """

    head: str
    middle: str
    tail: str

    @classmethod
    def of(cls, stage: str, version: int, sources: str, image: str, tools: Mapping[str, str]) -> Self:
        """Return what makes the keys of such documents; the arguments are fields of a KeyDocument."""
        return cls(
            head=f"({stage!r}, {version}, [",
            middle=f"], {sources!r}, [",
            tail=f"], {image!r}, {sorted(tools.items())!r})",
        )

    def key(self, parameters: Mapping[str, str], inputs: Mapping[str, str]) -> str:
        """Return the key of the document with these parameters and inputs."""
        # This is the repr of a tuple, written out: digests and keys are hexadecimal, so nothing in them needs escapes,
        # and a plan of 10,000 cells asks 47,000 times.
        listed = ", ".join([f"({name!r}, '{parameters[name]}')" for name in sorted(parameters)])
        roles = ", ".join([f"({role!r}, '{inputs[role]}')" for role in sorted(inputs)])
        text = f"{self.head}{listed}{self.middle}{roles}{self.tail}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def describe_change(
    old: Mapping[str, Any], new: KeyDocument, *, old_groups: Mapping[str, Any], new_groups: Mapping[str, Any]
) -> str:
    """Say in one line why the key differs from the one before: `toolchain armv7 changed: code.cpu`.

    Args:
        old: the key document of the job's last artifact, as plain JSON.
        new: the key document of now.
        old_groups: the parameter groups of then, by name.
        new_groups: the parameter groups of now, by name.
    """
    reasons = list(_group_changes(old_groups, new_groups))
    if old.get("sources") != new.sources or old.get("version") != new.version:
        reasons.append(f"source code of stage {new.stage} changed")
    old_tools = old.get("tools", {})
    for tool, version in new.tools.items():
        if old_tools.get(tool) != version:
            reasons.append(f"{tool} changed: {old_tools.get(tool, 'none')} -> {version}")
    if old.get("image") != new.image:
        reasons.append("image changed")
    old_inputs = old.get("inputs", {})
    changed = [role for role, key in new.inputs.items() if old_inputs.get(role) != key]
    changed += [role for role in old_inputs if role not in new.inputs]
    if changed:
        reasons.append(f"input changed: {', '.join(sorted(changed))}")
    return "; ".join(reasons) or "key changed"


def _group_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone"
        elif old[name] != new[name]:
            paths = list(_changed_paths(old[name], new[name], ""))
            shown = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
            yield f"{name} changed: {shown}" if shown else f"{name} changed"


def _changed_paths(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changed_paths(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changed_paths(before, after, f"{path}[{index}]")
    else:
        yield path


@cache
def tool_version(distribution: str) -> str:
    """Return the installed version of a Python distribution, or "absent"."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
    # `version` would have the whole of the metadata parsed as a mail, descriptions of many pages too.
    headers = (found.read_text("METADATA") or "").partition("\n\n")[0]
    version = _VERSION.search(headers)
    return version[1] if version else found.version


def tool_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return distribution -> installed version, "absent" where it is not installed."""
    return {name: tool_version(name) for name in distributions}


def digest_sources(root: Path, patterns: Iterable[str]) -> str:
    """Return the sha256 over the names and contents of source files.

    Args:
        root: the project's folder.
        patterns: as `source_files` takes them.

    Raises:
        FileNotFoundError: a pattern matches nothing, so the list is out of date.
    """
    hasher = hashlib.sha256()
    for name in source_files(root, patterns):
        hasher.update(f"{name}\0{_source_digest(root / name)}\n".encode())
    return hasher.hexdigest()


def source_files(root: Path, patterns: Iterable[str]) -> list[str]:
    """Return the files that a list of sources names, each once, in order.

    Args:
        root: the project's folder.
        patterns: paths relative to it. One that ends with `/` is a folder: all files below it, but what Python caches.
            One that begins with `!` is taken out again.

    Raises:
        FileNotFoundError: a pattern matches nothing, so the list is out of date.
    """
    found: set[str] = set()
    taken_out: set[str] = set()
    for pattern in patterns:
        name = pattern.removeprefix("!")
        names = _below(root, name) if name.endswith("/") else [name] if (root / name).is_file() else []
        if not names:
            raise FileNotFoundError(f"no source file matches {pattern!r} below {root}")
        (taken_out if pattern.startswith("!") else found).update(names)
    return sorted(found - taken_out)


def _below(root: Path, folder: str) -> list[str]:
    """Return the files below a folder that ends with `/`."""
    found: list[str] = []
    if not (root / folder).is_dir():
        return found
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    found += _below(root, f"{folder}{entry.name}/")
            elif not entry.name.endswith(".pyc"):
                found.append(folder + entry.name)
    return found


def _source_digest(path: Path) -> str:
    """Digest one source file; a run reads each file once, however many stages name it."""
    status = path.stat()
    return _cached_digest(path, status.st_size, status.st_mtime_ns)


@cache
def _cached_digest(path: Path, _size: int, _mtime_ns: int) -> str:
    return digest_file(path)
