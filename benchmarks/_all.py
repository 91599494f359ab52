"""Runs every benchmark, each in a process of its own, one after another, and writes the figures to docs/benchmarks.md.

A benchmark that ended without its last line did not measure anything: its row says so, and the run fails, as it does
when a goal is missed. With `--small` every benchmark runs in its small form, and no page is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._measuring import JUDGED_GOAL, NOT_JUDGED, SPREAD, Benchmark
from benchmarks._table import FIGURES, GOALS, PAGE, benchmarks, goals_table, replaced, rows
from crossfarm.util.paths import HOME

LONGEST = 30 * 60
"""Seconds after which a benchmark is ended: then something hangs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """What became of one run of a benchmark.

    Attributes:
        name: of the benchmark, with its arguments.
        value: with its unit; empty when nothing was measured.
        spread: how far the rounds lay apart, as the benchmark says it.
        verdict: `met`, `missed`, `not judged`, or what went wrong.
        seconds: how long it took.
    """

    name: str
    value: str
    spread: str
    verdict: str
    seconds: float

    @property
    def good(self) -> bool:
        """Return whether it ran, and met its goal if that was judged."""
        return self.verdict in ("met", "not judged")


def read_output(name: str, output: str, *, code: int, seconds: float) -> Figure:
    """Return the figure that a benchmark printed.

    Args:
        name: of the benchmark, with its arguments.
        output: all that it printed.
        code: its exit code.
        seconds: how long it took.
    """
    lines = output.splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
    told = re.fullmatch(rf"{re.escape(name.partition(' ')[0])} (-?\S+ .*?) \(({JUDGED_GOAL} .*|{NOT_JUDGED})\)", last)
    spread = next((line.removeprefix(SPREAD) for line in reversed(lines) if line.startswith(SPREAD)), "")
    if told is None or code not in (0, 1) or (code == 1 and told[2] == NOT_JUDGED):
        why = f"did not run: exit code {code}, {last.strip()}"
        return Figure(name=name, value="", spread="", verdict=why, seconds=seconds)
    verdict = "missed" if code else "not judged" if told[2] == NOT_JUDGED else "met"
    return Figure(name=name, value=told[1], spread=spread, verdict=verdict, seconds=seconds)


def run(name: str, command: Sequence[str], *, longest: float = LONGEST) -> Figure:
    """Run a benchmark, show what it prints as it comes, and return its figure.

    Args:
        name: of the benchmark, with its arguments.
        command: that runs it.
        longest: seconds after which it is ended.
    """
    started, shown = time.perf_counter(), []
    with subprocess.Popen(command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        clock = threading.Timer(longest, process.kill)
        clock.start()
        try:
            for line in process.stdout or ():
                shown.append(line)
                sys.stdout.write(f"  {line}")
                sys.stdout.flush()
            process.wait()
        finally:
            clock.cancel()
    return read_output(name, "".join(shown), code=process.returncode, seconds=time.perf_counter() - started)


def machine() -> str:
    """Return processors and memory of this machine in words."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = found[1].strip() if found else os.uname().machine
    return f"{len(os.sched_getaffinity(0))} processors of {model}, {gibibytes:.0f} GiB, Linux {os.uname().release}"


def commit() -> str:
    """Return the commit of this folder, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.md")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def figures(measured: Sequence[Figure], *, where: str, revision: str, when: str) -> str:
    """Return the part of the page with the figures.

    Args:
        measured: in their order.
        where: the machine.
        revision: the commit.
        when: the date.
    """
    table = rows(
        ("name", "figure", "spread", "goal", "took"),
        *(
            tuple(
                cell.replace("|", "\\|")
                for cell in (f"`{one.name}`", one.value, one.spread, one.verdict, f"{one.seconds:.0f} s")
            )
            for one in measured
        ),
    )
    return f"{when}, commit {revision}, on {where}:\n\n{table}"


def commands(declared: Sequence[Benchmark], *, small: bool) -> list[tuple[str, list[str]]]:
    """Return name and command of every run: each benchmark, and each further form of the full one."""
    found = []
    for one in declared:
        for form in ("", *(() if small else one.forms)):
            words = [*shlex.split(form), *(["--small"] if small else [])]
            found.append((f"{one.name} {form}".strip(), [sys.executable, "-m", f"benchmarks.{one.name}", *words]))
    return found


def main() -> None:
    """Run all, write the page, and end with 1 when one did not run or missed its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="everything for real, over little data; nothing is judged")
    small = parser.parse_args().small
    declared = benchmarks()
    planned, measured, revision = commands(declared, small=small), [], commit()
    for number, (name, command) in enumerate(planned, 1):
        print(f"{number} of {len(planned)}: {name}", flush=True)
        measured.append(run(name, command))
    print()
    for one in measured:
        print(f"{one.name:24} {one.value:40} {one.verdict} ({one.seconds:.0f} s)")
    if not small:
        text = figures(measured, where=machine(), revision=revision, when=f"{datetime.now(UTC):%Y-%m-%d}")
        page = replaced(PAGE.read_text(encoding="utf-8"), GOALS, goals_table(declared))
        PAGE.write_text(replaced(page, FIGURES, text), encoding="utf-8")
    sys.exit(0 if all(one.good for one in measured) else 1)


if __name__ == "__main__":
    main()
