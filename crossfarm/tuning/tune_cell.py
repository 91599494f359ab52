"""Tunes one cell: searches, puts the best variants together, and takes them when the model is faster for it."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from crossfarm.bundles.manifest import Manifest
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target
from crossfarm.errors import CrossfarmError, ModelError
from crossfarm.tuning import records
from crossfarm.tuning.build_pool import Builders, Choices
from crossfarm.tuning.layer_times import Run
from crossfarm.tuning.records import MeasuredChoice, TakenChoices
from crossfarm.tuning.search import LayerState, SearchTools, Stopped, best_choices, search, states_of, times_by_layer
from crossfarm.tuning.successive_halving import Confirmation, confirm, median_interval
from crossfarm.tuning.tune_table import LayerRow, TunedCell, kind_of
from crossfarm.tuning.where import ProgramRunner
from crossfarm.util.scratch import scratch_folder

_CASES = 4
"""Cases whose outputs are compared before a program is timed."""
_VISIT_NS = 150e6
"""Plain runs of a program each time that it is started, in nanoseconds; profiled ones take as long again."""
_FEWEST, _MOST = 5, 60
"""Bounds of the runs in that time."""
_WORSE = 1.01
"""A layer that is slower than this in the tuned model goes back to the rule's choice."""
_SLOWER_THREADED = 1.02
"""A tuned model may not be slower than this with all processors."""


@dataclasses.dataclass
class Budget:
    """What a search may cost.

    Attributes:
        deadline: on the monotonic clock, or None.
        most_runs: of programs, or None.
        runs: so far.
    """

    deadline: float | None = None
    most_runs: int | None = None
    runs: int = 0

    def spend(self) -> None:
        """Count a run.

        Raises:
            Stopped: there is nothing left.
        """
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Stopped("the time is used up")
        if self.most_runs is not None and self.runs >= self.most_runs:
            raise Stopped("the runs are used up")
        self.runs += 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A cell to tune.

    Attributes:
        cell: which.
        target: of the cell.
        tolerance: share of an output's scale within which programs agree.
        prepared: artifact of `prepare`.
        reference: artifact of `reference`.
        records: the folder tuning/.
        threads: of the model during the search.
        place: where its programs run.
    """

    cell: Cell
    target: Target
    tolerance: float
    prepared: Path
    reference: Path
    records: Path
    threads: int
    place: ProgramRunner

    @property
    def path(self) -> Path:
        """File of the cell's records."""
        return records.records_path(
            self.records, target=self.cell.target, model=self.cell.model, variant=self.cell.variant
        )

    @property
    def identity(self) -> str:
        """What the records depend on beside the layers."""
        return records.identity(self.target.code)


def tune(task: Task, *, budget: Budget, log: IO[bytes], progress: Callable[[str], None]) -> TunedCell:
    """Tune a cell and keep what was found in its records.

    Args:
        task: the cell.
        budget: shared with other cells.
        log: what the compiler says.
        progress: called with lines for the user.

    Raises:
        CrossfarmError: the model cannot be compiled or run even untuned.
    """
    with scratch_folder("tune") as folder:
        builders = Builders(
            cell=task.cell,
            target=task.target,
            model=task.prepared / "model.onnx",
            reference=task.reference,
            work=Path(folder),
            jobs=len(os.sched_getaffinity(0)),
            log=log,
        )
        try:
            return _Tuning(task, builders, Path(folder), budget, progress).to_its_end()
        finally:
            builders.close()


class _Tuning:
    """One search, from the untuned program to the records."""

    def __init__(
        self, task: Task, builders: Builders, work: Path, budget: Budget, progress: Callable[[str], None]
    ) -> None:
        self._task, self._builders, self._budget, self._progress = task, builders, budget, progress
        self._outputs = work / "outputs"
        self._base = self._build({})
        self._repeat = _FEWEST
        self._repeat = round(min(max(_VISIT_NS / statistics.median(self._run(self._base).latency), _FEWEST), _MOST))
        self._wanted = self._outputs_of(self._base)
        self._ratios: dict[str, float] = {}

    def to_its_end(self) -> TunedCell:
        """Search, confirm, keep."""
        task, started = self._task, time.monotonic()
        known = records.read(task.path, identity=task.identity)
        for number in known.damaged:
            self._progress(f"{task.path.name}:{number}: no record; it is passed over")
        shared = _shared(task)
        states = states_of(self._builders.layers(), shared=shared, known=known.measured)
        means = SearchTools(
            builders=self._builders,
            run=self._run,
            agrees=self._agrees,
            note=lambda entries: records.append(task.path, entries, identity=task.identity),
            spend=self._budget.spend,
            progress=self._progress,
        )
        before = self._budget.runs
        stopped = ""
        try:
            search(states, base=self._base, means=means)
        except Stopped as end:
            stopped = str(end)
            self._progress(f"{end}; what is known so far is put together")
        choices, confirmation = self._put_together(states)
        taken = self._taken(choices, confirmation, runs=self._budget.runs - before, complete=not stopped)
        is_worse = known.taken is not None and known.taken.ratio <= taken.ratio
        if stopped and choices and not is_worse:
            records.append(task.path, [taken], identity=task.identity)
        elif not stopped:
            records.compact(task.path, [*_winners(states), taken], identity=task.identity)
        return self._outcome(states, taken, confirmation, time.monotonic() - started)

    def _put_together(self, states: dict[str, LayerState]) -> tuple[Choices, Confirmation | None]:
        """Build the tuned model, leave out what is slower in it after all, and compare it with the untuned one."""
        choices = best_choices(states)
        if not choices:
            return {}, None
        tuned = self._build(choices)
        confirmation = self._confirm(tuned)
        self._ratios = _layer_ratios(self._base, tuned, confirmation)
        slower = {key for key, ratio in self._ratios.items() if ratio > _WORSE}
        if slower & set(choices):
            choices = {key: choice for key, choice in choices.items() if key not in slower}
            if not choices:
                return {}, None
            self._progress(f"{len(slower)} layers go back to the rule's choice: they are slower in the whole model")
            tuned = self._build(choices)
            confirmation = self._confirm(tuned)
            self._ratios = _layer_ratios(self._base, tuned, confirmation)
        if not self._agrees(tuned):
            raise ModelError(f"{self._task.cell.id}: the tuned model's outputs do not agree with the untuned one's")
        if confirmation.is_faster and self._is_slower_threaded(tuned):
            self._progress("not taken: with all processors the tuned model is slower")
            return {}, confirmation
        return (choices if confirmation.is_faster else {}), confirmation

    def _confirm(self, tuned: Path) -> Confirmation:
        self._progress("comparing the tuned model with the untuned one, in turn")
        return confirm(self._base, tuned, run=self._run)

    def _is_slower_threaded(self, tuned: Path) -> bool:
        threads = self._task.place.processors
        if threads == self._task.threads or self._task.place.is_emulated:
            return False
        found = confirm(self._base, tuned, run=lambda folder: self._run(folder, threads=threads))
        return found.interval.median > _SLOWER_THREADED

    def _taken(self, choices: Choices, confirmation: Confirmation | None, *, runs: int, complete: bool) -> TakenChoices:
        self._task.place.confirm()
        interval = confirmation.interval if confirmation is not None else median_interval([1.0])
        return TakenChoices(
            choices={key: dict(choice) for key, choice in choices.items()},
            ratio=round(interval.median, 4),
            interval=(round(interval.low, 4), round(interval.high, 4)),
            pairs=confirmation.pairs if confirmation is not None else 0,
            runs=runs,
            machine=self._task.place.machine,
            complete=complete,
        )

    def _outcome(
        self, states: dict[str, LayerState], taken: TakenChoices, confirmation: Confirmation | None, seconds: float
    ) -> TunedCell:
        """Say what was found, by the pairs of the comparison; what was not taken stays as it was."""
        untuned = [old for old, _ in confirmation.runs] if confirmation is not None else [self._run(self._base)]
        before = medians([times_by_layer(self._base, run) for run in untuned])
        latency = statistics.median(statistics.median(run.latency) for run in untuned)
        ratios = self._ratios if taken.choices else {}
        rows = [
            LayerRow(
                layer=key,
                tried=tuple(map(kind_of, state.tried)),
                wrong=len(state.wrong),
                before=before.get(key, 0.0),
                after=before.get(key, 0.0) * (ratios.get(key, 1.0) if key in taken.choices else 1.0),
                share=before.get(key, 0.0) / latency if latency else 0.0,
            )
            for key, state in states.items()
        ]
        return TunedCell(
            cell=self._task.cell.id,
            rows=tuple(sorted(rows, key=lambda row: -row.before)),
            taken=taken,
            is_better=bool(taken.choices),
            seconds=seconds,
            is_emulated=self._task.place.is_emulated,
        )

    def _build(self, choices: Choices) -> Path:
        folder = self._builders.build([choices])[0]
        if folder is None:
            raise ModelError(f"{self._task.cell.id}: cannot be built; see the log")
        return folder

    def _run(self, folder: Path, threads: int | None = None) -> Run:
        return self._task.place.run(folder, threads=threads or self._task.threads, repeat=self._repeat)

    def _agrees(self, folder: Path) -> bool:
        """Say whether a program's outputs are those of the untuned one, within the model's tolerance of their scale."""
        import numpy as np

        try:
            found = self._outputs_of(folder)
        except CrossfarmError:
            # A variant that crashes is wrong. Where the untuned program does not run either, the board is at fault.
            self._outputs_of(self._base)
            return False
        for got, wanted in zip(found, self._wanted, strict=True):
            scale = float(np.abs(wanted.astype(np.float64)).max(initial=0.0))
            difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0)
            if not difference <= self._task.tolerance * scale:
                return False
        return True

    def _outputs_of(self, folder: Path) -> Sequence[Any]:
        import numpy as np

        manifest = Manifest.read(folder / "manifest.json")
        self._task.place.run(
            folder,
            threads=self._task.threads,
            repeat=0,
            warmup=0,
            outputs=self._outputs,
            cases=min(manifest.cases, _CASES),
        )
        return [
            np.fromfile(self._outputs / f"{number}.bin", dtype=port.dtype)
            for number, port in enumerate(manifest.outputs)
        ]


def _shared(task: Task) -> dict[str, Any]:
    """Return layer -> choice that was taken for other cells of the target."""
    found: dict[str, Any] = {}
    for path in sorted((task.records / task.cell.target).glob("*.jsonl")):
        taken = records.read(path, identity=task.identity).taken if path != task.path else None
        if taken is not None:
            found |= taken.choices
    return found


def _winners(states: dict[str, LayerState]) -> list[MeasuredChoice]:
    """Return one line per layer: the variant that was found best, the rule's own where none is better."""
    return [
        MeasuredChoice(
            layer=key,
            choice=state.variants[state.best],
            round=max(state.rounds - 1, 0),
            ratios=tuple(round(ratio, 4) for ratio in state.ratios.get(state.best, ())),
            nanoseconds=round(state.nanoseconds.get(state.best, 0)),
        )
        for key, state in states.items()
    ]


def medians(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return layer -> median of its times in several runs."""
    found: dict[str, list[float]] = {}
    for each in times:
        for key, value in each.items():
            found.setdefault(key, []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def _layer_ratios(base: Path, tuned: Path, confirmation: Confirmation) -> dict[str, float]:
    """Return layer -> its time in the tuned program over that in the untuned one, the median of pairs."""
    ratios: dict[str, list[float]] = {}
    for old, new in confirmation.runs:
        before, after = times_by_layer(base, old), times_by_layer(tuned, new)
        for key in before.keys() & after.keys():
            if before[key] > 0:
                ratios.setdefault(key, []).append(after[key] / before[key])
    return {key: statistics.median(found) for key, found in ratios.items()}
