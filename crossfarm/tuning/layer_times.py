"""Time per layer: a bundle's program times each call, and compile.json says how much each call computes."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from crossfarm.boards.protocol import Timing
from crossfarm.boards.result import RESULT, RunnerResult
from crossfarm.boards.transports.bundle_run import run_bundle
from crossfarm.boards.transports.written import OUTPUTS
from crossfarm.bundles.compile_report import CompileReport, FunctionCost
from crossfarm.errors import BundleError
from crossfarm.stages.measure.artifact import PROFILE, ProfileFile, read_file
from crossfarm.util.scratch import scratch_folder

TIME_LIMIT = 1800
"""Seconds after which a program is ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One start of a program with --profile.

    Attributes:
        latency: nanoseconds of each plain run.
        calls: name and nanoseconds in each profiled run, of each call in order; they took turns with the plain ones.
    """

    latency: tuple[int, ...]
    calls: tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTime:
    """A function with all its calls in a run of the model.

    Attributes:
        name: of the function.
        calls: in one run of the model.
        nanoseconds: of all of them together, the median over runs.
        operations: of all of them together, 0 where that is unknown.
        scheduled: a rule covered it.
    """

    name: str
    calls: int
    nanoseconds: float
    operations: int
    scheduled: bool

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / (self.nanoseconds * 1e-9) if self.nanoseconds > 0 else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of a model goes.

    Attributes:
        layers: the slowest first.
        latency: nanoseconds of a whole run, the median.
        threads: that it ran on.
        timing: emulated time says nothing about silicon.
        peak: operations a second of one core at most; None where it was not measured.
    """

    layers: tuple[LayerTime, ...]
    latency: float
    threads: int
    timing: Timing
    peak: float | None

    @property
    def total(self) -> float:
        """Nanoseconds of all layers together."""
        return sum(layer.nanoseconds for layer in self.layers)

    @property
    def unscheduled_share(self) -> float:
        """Share of the time, 0 to 1, that functions take which no rule covered."""
        left = sum(layer.nanoseconds for layer in self.layers if not layer.scheduled)
        return left / self.total if self.total else 0.0


def run_profiled(
    bundle: Path,
    *,
    threads: int,
    repeat: int,
    warmup: int = 3,
    prefix: Sequence[str] = (),
    processors: Sequence[int] = (),
    outputs: Path | None = None,
    cases: int = 1,
) -> Run:
    """Run a bundle's program with --profile on this host, sandboxed where this machine can.

    Args:
        bundle: its folder.
        threads: of the model.
        repeat: timed runs, and as many profiled ones.
        warmup: runs before.
        prefix: emulator and its arguments.
        processors: that the threads are bound to; empty leaves that to the kernel.
        outputs: folder for the outputs.
        cases: that are run once at the start.

    Raises:
        BoardError: the program does not start, is killed, or takes too long.
        BundleError: it refuses the bundle, or fails.
    """
    options = runner_options(threads=threads, repeat=repeat, warmup=warmup, cases=cases)
    if processors:
        options += ["--affinity", ",".join(map(str, processors))]
    with scratch_folder("profile") as name:
        folder = Path(name)
        (folder / OUTPUTS).mkdir()
        ended = run_bundle(bundle, options, output=folder, timeout=TIME_LIMIT, prefix=prefix, profile=True)
        if ended.code != 0:
            raise BundleError(f"the program ended with {ended.code}: {ended.tail.strip()}; make the bundle again")
        if outputs is not None:
            shutil.copytree(folder / OUTPUTS, outputs, dirs_exist_ok=True)
        return read_run(folder / RESULT, folder / PROFILE)


def runner_options(*, threads: int, repeat: int, warmup: int, cases: int) -> list[str]:
    """Return the options of a bundle's program for a search; the files are not verified at each start."""
    numbers = {"--threads": threads, "--warmup": warmup, "--repeat": repeat, "--cases": cases}
    return [*(word for name, value in numbers.items() for word in (name, str(value))), "--no-verify"]


def read_run(result: Path, profile: Path) -> Run:
    """Return what a program wrote for --result and --profile.

    Raises:
        BundleError: a file is missing or is not what this version writes.
    """
    calls = read_file(ProfileFile, profile).calls
    return Run(latency=read_file(RunnerResult, result).latency_ns, calls=tuple((call.name, call.ns) for call in calls))


def layer_times(run: Run) -> dict[str, list[int]]:
    """Return function -> nanoseconds of all its calls together in each profiled run, in the order of first calls."""
    found: dict[str, list[int]] = {}
    for name, samples in run.calls:
        known = found.setdefault(name, [0] * len(samples))
        for number, sample in enumerate(samples):
            known[number] += sample
    return found


def summarised(
    run: Run,
    report: CompileReport,
    *,
    threads: int,
    timing: Timing,
    peak: float | None,
) -> Profile:
    """Return a run's profile.

    Args:
        run: of at least one timed run.
        report: of the same bundle.
        threads: that it ran on.
        timing: how the time was taken.
        peak: operations a second of one core, or None.
    """
    costs = {cost.name: cost for cost in report.costs}
    counts: dict[str, int] = {}
    for name, _ in run.calls:
        counts[name] = counts.get(name, 0) + 1
    layers = []
    for name, samples in layer_times(run).items():
        cost = costs.get(name, FunctionCost(name=name, operations=0, scheduled=name not in report.unscheduled))
        layers.append(
            LayerTime(
                name=name,
                calls=counts[name],
                nanoseconds=statistics.median(samples),
                operations=cost.operations * counts[name],
                scheduled=cost.scheduled,
            )
        )
    return Profile(
        layers=tuple(sorted(layers, key=lambda layer: -layer.nanoseconds)),
        latency=statistics.median(run.latency),
        threads=threads,
        timing=timing,
        peak=peak,
    )
