"""Every command of crossfarm that a workflow, a script of .ci or a template types is one, with options that it has."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection
from invoke.loader import FilesystemLoader

from crossfarm.util.paths import HOME

FILES = sorted(
    path
    for place in (".github/workflows", ".ci", "docs/templates")
    for path in (HOME / place).rglob("*")
    if path.is_file() and path.suffix != ".cjs"
)
_COMMAND = re.compile(r"(?:\binv|quietly)\"? ([a-z][a-z-]*)(.*)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")


@pytest.fixture(scope="module")
def verbs() -> Mapping[str, set[str]]:
    """Return the options of each verb, as they are typed."""
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module, _ = FilesystemLoader(start=str(HOME)).load("tasks")
    finally:
        sys.dont_write_bytecode = written
    contexts: Any = Collection.from_module(module).to_contexts()
    return {context.name: {*context.flags, *context.inverse_flags} for context in contexts}


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    text = re.sub(r"\\+\n\s*", " ", path.read_text())
    text = re.sub(r"^(\s+)- >-\n((?:\1  .*\n)+)", lambda found: " ".join(found[2].split()) + "\n", text, flags=re.M)
    for line in text.splitlines():
        if line.lstrip().startswith(("#", "//", "echo", "- name:")):
            continue
        for verb, rest in _COMMAND.findall(line):
            yield verb, _OPTION.findall(rest)


def test_each_is_a_verb_with_options_of_its_own(verbs: Mapping[str, set[str]]) -> None:
    found = [(path.name, verb, options) for path in FILES for verb, options in commands(path)]
    assert {"matrix", "merge", "compare", "annotate", "pipeline", "images", "clean", "setup"} <= {
        verb for _, verb, _ in found
    }
    for name, verb, options in found:
        assert verb in verbs, f"{name}: {verb}"
        every = verbs[verb] | (verbs["pipeline"] | verbs["lint"] if verb == "setup" else set())
        assert set(options) <= every, f"{name}: {verb} {options}"


@pytest.mark.parametrize(("script", "verb"), [("options", "pipeline"), ("run", "pipeline"), ("compare", "compare")])
def test_options_that_are_put_together_are_those_of_the_verb(
    verbs: Mapping[str, set[str]], script: str, verb: str
) -> None:
    text = "\n".join(re.findall(r"options\+?=\(.*\)", (HOME / ".ci" / "action" / script).read_text()))
    assert len(_OPTION.findall(text)) > 4
    assert set(_OPTION.findall(text)) <= verbs[verb]
    if script == "options":
        assert set(_OPTION.findall(text)) <= verbs["matrix"]
