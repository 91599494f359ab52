"""What the benchmarks share: timing a command, and the last line that says whether the goal is met."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / ".crossfarm" / "bench"
INV = [sys.executable, "-m", "crossfarm.commandline", "--search-root", str(ROOT)]


def seconds_of(command: Sequence[str], *, code: int = 0) -> float:
    """Return the wall time of a command in seconds; its output is shown only when it ends with another code."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
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


def finish(name: str, value: float, unit: str, goal: str, *, good: bool) -> None:
    """Print the last line and end: exit code 0 when the goal is met, else 1."""
    print(f"{name} {value:.3f} {unit} (goal {goal})")
    sys.exit(0 if good else 1)
