"""The tables of docs/benchmarks.md: what is measured, from what each benchmark says of itself, and the last figures.

`python -m benchmarks._table` writes the first one anew; `./inv bench all` writes both.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks._measuring import Benchmark
from crossfarm.util.paths import HOME

PAGE = HOME / "docs" / "benchmarks.md"
GOALS, FIGURES = "goals", "figures"
"""What stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of the page is written by a program."""


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def benchmarks() -> list[Benchmark]:
    """Return what each benchmark says of itself, by name.

    Raises:
        SystemExit: one says nothing, or goes by another name than its file.
    """
    found = []
    for name in names():
        benchmark = getattr(importlib.import_module(f"benchmarks.{name}"), "BENCHMARK", None)
        if not isinstance(benchmark, Benchmark) or benchmark.name != name:
            raise SystemExit(f"benchmarks/{name}.py: declare BENCHMARK = Benchmark(name={name!r}, ...)")
        found.append(benchmark)
    return found


def rows(*lines: Sequence[str]) -> str:
    """Return a table in Markdown; the first line is its head."""
    head, *others = lines
    body = "".join(f"| {' | '.join(line)} |\n" for line in others)
    return f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n{body}"


def goals_table(declared: Sequence[Benchmark]) -> str:
    """Return what is measured, how, how long that takes, and the goals."""
    return rows(
        ("name", "what is measured", "how", "goal", "minutes"),
        *((f"`{one.name}`", one.what, one.how, one.goal, f"{one.minutes:g}") for one in declared),
    )


def between_markers(page: str, name: str) -> str:
    """Return what stands between the markers of a name.

    Raises:
        SystemExit: the page has no such markers.
    """
    return _parts(page, name)[1]


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with another text between the markers of a name.

    Raises:
        SystemExit: the page has no such markers.
    """
    before, _, behind = _parts(page, name)
    return f"{before}{text}{behind}"


def _parts(page: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    text, closed, behind = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"docs/benchmarks.md has no lines {begin.strip()} and {end}")
    return before + found, text, closed + behind


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(), GOALS, goals_table(benchmarks())))
