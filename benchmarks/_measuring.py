"""What the benchmarks share: what each says of itself, timing a command, and the last line with the verdict."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from crossfarm.util.paths import HOME

SCRATCH = HOME / ".crossfarm" / "bench"
INV = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME)]
SPREAD = "spread: "
"""Begins the line from which `./inv bench all` takes how far the rounds lay apart."""
JUDGED_GOAL, NOT_JUDGED = "goal", "small form, not judged"
"""What stands in the brackets of the last line: the goal behind the first word, or the second."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a benchmark says of itself: a row of docs/benchmarks.md, which is made from it.

    Attributes:
        name: its file.
        what: is measured.
        how: in a few words.
        goal: of the full form.
        minutes: what the full form takes on two cores, everything that it needs being in the store.
        forms: further arguments with which `./inv bench all` runs it too.
    """

    name: str
    what: str
    how: str
    goal: str
    minutes: float
    forms: tuple[str, ...] = ()

    def parser(self, text: str | None = None) -> argparse.ArgumentParser:
        """Return a parser with the option that every benchmark takes: `--small`."""
        parser = argparse.ArgumentParser(
            description=text or self.what, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument(
            "--small",
            action="store_true",
            help="everything for real, over little data and few rounds; the goal is not judged",
        )
        return parser

    def finish(self, value: float, unit: str, *, good: bool, small: bool = False) -> NoReturn:
        """Print the last line and end: exit code 0 when the goal is met or was not judged, else 1."""
        judged = NOT_JUDGED if small else f"{JUDGED_GOAL} {self.goal}"
        print(f"{self.name} {value:.3f} {unit} ({judged})")
        sys.exit(0 if good or small else 1)


def seconds_of(command: Sequence[str], *, code: int = 0) -> float:
    """Return the wall time of a command in seconds; its output is shown only when it ends with another code."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != code:
        sys.stdout.write(done.stdout)
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}")
    return seconds


def interpreter_start(repeat: int = 15) -> float:
    """Return the median time in seconds that an empty Python program takes."""
    return statistics.median(seconds_of([sys.executable, "-c", "pass"]) for _ in range(repeat))


def spread(samples: Sequence[float], unit: str = "s", scale: float = 1.0) -> str:
    """Return median, minimum and maximum of the samples in one phrase."""
    values = [sample * scale for sample in samples]
    return (
        f"median {statistics.median(values):.3f} {unit}, min {min(values):.3f}, max {max(values):.3f}, n {len(values)}"
    )


def between(samples: Sequence[float], unit: str = "") -> str:
    """Return the smallest and the largest of the figures of the rounds: `0.71 to 0.78 x in 5 rounds`."""
    return f"{min(samples):.3g} to {max(samples):.3g}{f' {unit}' if unit else ''} in {len(samples)} rounds"
