"""Which mutants a module has: mutmut's operators, on every function, one change each.

mutmut itself builds a module in which all mutants stand side by side behind trampolines. That leaves out decorated
functions (here: context managers, properties, caches) and module constants, and it copies the project to a folder that
`--import-mode=importlib` does not import from. So only its operators are used, and each mutant is a module of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation import file_mutation, mutators, pragma_handling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of a module.

    Attributes:
        name: the changed line before and after, numbered where that occurs several times; line numbers are no part
            of it, so that it stays the same when the module grows elsewhere.
        line: number of the first changed line.
        source: the whole changed module.
    """

    name: str
    line: int
    source: str


class _Visitor(file_mutation.MutationVisitor):
    """mutmut's visitor without what its trampolines cannot do, and without the wording of errors."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return False
        if isinstance(node, cst.Raise):
            self._operators = [pair for pair in self._operators if pair[1] is not mutators.operator_string]
        skipped: bool = super()._skip_node_and_children(node)
        return skipped

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.Raise):
            self._operators = mutators.mutation_operators
        super().on_leave(original_node)


def mutants(path: Path) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines.

    Args:
        path: of the module.
    """
    source = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source))
    # No line is left out; mutmut's own reading of them wants to know the layout of the project first.
    nothing = pragma_handling.IgnoredCode(no_mutate_lines=set(), ignore_node_lines=set(), ignore_pattern_lines=set())
    visitor = _Visitor(mutators.mutation_operators, nothing)
    module = wrapper.visit(visitor)
    ranges = wrapper.resolve(WhitespaceInclusivePositionProvider)
    starts = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]
    seen: Counter[str] = Counter()
    made: list[Mutant] = []
    for mutation in visitor.mutations:
        if _changes_case_only(mutation):
            continue
        place = ranges[mutation.original_node]
        changed = _changed(
            module,
            mutation,
            before=source[: starts[place.start.line - 1] + place.start.column],
            after=source[starts[place.end.line - 1] + place.end.column :],
            source=source,
        )
        name, line = _difference(source, changed)
        if not name:
            continue
        seen[name] += 1
        number = f" #{seen[name]}" if seen[name] > 1 else ""
        made.append(Mutant(name=name + number, line=line, source=changed))
    return sorted(made, key=lambda mutant: mutant.line)


def _changed(module: cst.Module, mutation: file_mutation.Mutation, *, before: str, after: str, source: str) -> str:
    """Return the source with one node replaced: in the text where that can be done, since the tree takes far longer."""
    if before + module.code_for_node(mutation.original_node) + after == source:
        return before + module.code_for_node(mutation.mutated_node) + after
    changed = file_mutation.deep_replace(module, mutation.original_node, mutation.mutated_node)
    assert isinstance(changed, cst.Module)
    return changed.code


def _changes_case_only(mutation: file_mutation.Mutation) -> bool:
    """A text in capitals is noticed by the same tests as a text with XX around it."""
    old, new = mutation.original_node, mutation.mutated_node
    return (
        isinstance(old, cst.SimpleString)
        and isinstance(new, cst.SimpleString)
        and old.value.lower() == new.value.lower()
    )


def _difference(old: str, new: str) -> tuple[str, int]:
    """Return the changed lines before and after as one text, and the number of the first of them."""
    before, after = old.splitlines(), new.splitlines()
    if before == after:
        return "", 0
    first = next(i for i, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    most = min(len(before), len(after)) - first
    same = next((i for i in range(most) if before[-1 - i] != after[-1 - i]), most)
    texts = [" ".join(" ".join(lines[first : len(lines) - same]).split()) for lines in (before, after)]
    return " => ".join(texts), first + 1
