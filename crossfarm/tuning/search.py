"""The search for one model: every layer's variants compete in the model itself, all layers at once.

A program holds one variant of every layer, so that one run of it measures a variant of each, with the caches as the
model leaves them. Programs take turns with the untuned one, and what counts is the ratio to it at about the same time.
"""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossfarm.bundles.compile_report import CompileReport
from crossfarm.tuning.build_pool import Builders, Choices
from crossfarm.tuning.build_worker import LayerVariants
from crossfarm.tuning.layer_times import Run, layer_times
from crossfarm.tuning.records import MeasuredChoice
from crossfarm.tuning.successive_halving import better_half, runs_in, score

CHUNK = 6
"""Programs that are built and then measured together: what a killed run loses at most."""
BETWEEN_BASES = 3
"""Programs between two runs of the untuned one."""
WORTHWHILE = 0.985
"""A variant that is not at least so much faster stays what the rule says: less is noise."""

Times = Mapping[str, float]
"""Layer -> nanoseconds in a run of the model."""


@dataclasses.dataclass
class LayerState:
    """A layer under search.

    Attributes:
        variants: the rule's choice first.
        alive: numbers of the variants that are still in, the best first.
        ratios: variant -> its times over the untuned ones.
        nanoseconds: variant -> its median time in the last round.
        wrong: variants whose outputs did not agree.
        rounds: that are over.
    """

    variants: tuple[Mapping[str, Any], ...]
    alive: list[int]
    ratios: dict[int, list[float]]
    nanoseconds: dict[int, float]
    wrong: set[int]
    rounds: int = 0

    @property
    def is_open(self) -> bool:
        """Whether more than the rule's choice is left to compare."""
        return len(self.alive) > 1

    @property
    def best(self) -> int:
        """The variant to take, as far as is known now."""
        measured = {number: self.ratios[number] for number in self.alive if self.ratios.get(number)}
        first = min(measured, key=lambda number: score(measured[number]), default=0)
        return first if first and score(measured[first]) < WORTHWHILE else 0

    @property
    def tried(self) -> tuple[Mapping[str, Any], ...]:
        """The variants that were measured, the rule's own first."""
        return tuple(variant for number, variant in enumerate(self.variants) if not number or self.ratios.get(number))


class Stopped(Exception):  # noqa: N818 (no error: the budget is used up)
    """The budget is used up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchTools:
    """What a search works with.

    Attributes:
        builders: make programs.
        run: runs a program once, profiled.
        agrees: says whether a program's outputs agree with the untuned one's.
        note: keeps what was measured.
        spend: called before each run of a program; raises Stopped when the budget is used up.
        progress: called with a line for the user.
    """

    builders: Builders
    run: Callable[[Path], Run]
    agrees: Callable[[Path], bool]
    note: Callable[[Sequence[MeasuredChoice]], None]
    spend: Callable[[], None]
    progress: Callable[[str], None]


def states_of(
    layers: Sequence[LayerVariants], *, shared: Choices, known: Sequence[MeasuredChoice]
) -> dict[str, LayerState]:
    """Return the layers with more than one variant, as far as earlier runs brought them.

    Args:
        layers: of the model.
        shared: layer -> choice that another model took; such a layer is not searched again, only compared.
        known: what earlier runs measured for this model.
    """
    found: dict[str, LayerState] = {}
    for layer in layers:
        variants: tuple[Mapping[str, Any], ...] = layer.variants
        if layer.key in shared:
            variants = tuple(_distinct([*layer.variants[:1], shared[layer.key]]))
        if len(variants) > 1:
            found[layer.key] = LayerState(
                variants=variants, alive=list(range(len(variants))), ratios={}, nanoseconds={}, wrong=set()
            )
    _replay(found, known)
    return found


def search(states: dict[str, LayerState], *, base: Path, means: SearchTools) -> None:
    """Halve the variants of every layer round by round until one is left; `states` holds what is known at any time.

    Args:
        states: as from `states_of`; changed.
        base: the untuned program.
        means: to work with.

    Raises:
        Stopped: the budget is used up; what was measured so far counts.
    """
    while waiting := [key for key, state in states.items() if state.is_open]:
        number = min(states[key].rounds for key in waiting)
        now = [key for key in waiting if states[key].rounds == number]
        means.progress(
            f"round {number + 1}: {len(now)} layers, {max(len(states[key].alive) for key in now)} variants; "
            f"best so far {estimate(states):.3f} of the untuned time"
        )
        _round(number, {key: states[key] for key in now}, base=base, means=means)
        for key in now:
            _close(states[key])


def estimate(states: Mapping[str, LayerState]) -> float:
    """Return the time of the searched layers with the best variants over their untuned time, by what is known."""
    before = {key: statistics.fmean(state.nanoseconds.values()) for key, state in states.items() if state.nanoseconds}
    if not sum(before.values()):
        return 1.0
    after = sum(_best_ratio(states[key]) * time for key, time in before.items())
    return after / sum(before.values())


def best_choices(states: Mapping[str, LayerState]) -> dict[str, Mapping[str, Any]]:
    """Return layer -> choice where a variant is better than the rule's."""
    return {key: state.variants[state.best] for key, state in states.items() if state.best}


def times_by_layer(program: Path, run: Run) -> Times:
    """Return the median nanoseconds of each layer, all calls together, in a run of a program."""
    costs = CompileReport.read(program / "compile.json").costs
    layers = {cost.name: cost.layer for cost in costs}
    sums: dict[str, list[int]] = {}
    for function, samples in layer_times(run).items():
        key = layers.get(function)
        if key is not None:
            known = sums.setdefault(key, [0] * len(samples))
            for place, sample in enumerate(samples):
                known[place] += sample
    return {key: statistics.median(samples) for key, samples in sums.items()}


def _best_ratio(state: LayerState) -> float:
    return score(state.ratios[state.best]) if state.best else 1.0


def _distinct(choices: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    seen: list[dict[str, Any]] = []
    for choice in choices:
        if dict(choice) not in seen:
            seen.append(dict(choice))
            yield choice


def _replay(states: Mapping[str, LayerState], known: Sequence[MeasuredChoice]) -> None:
    """Bring the layers to where an earlier run left them."""
    by_round: dict[tuple[str, int], dict[int, MeasuredChoice]] = {}
    for entry in known:
        state = states.get(entry.layer)
        plain = [dict(variant) for variant in state.variants] if state else []
        if dict(entry.choice) in plain:
            by_round.setdefault((entry.layer, entry.round), {})[plain.index(dict(entry.choice))] = entry
    for key, state in states.items():
        while state.is_open:
            measured = by_round.get((key, state.rounds), {})
            for number, entry in measured.items():
                _take(state, number, entry)
            if any(number not in measured for number in state.alive if number):
                break
            _close(state)


def _take(state: LayerState, number: int, entry: MeasuredChoice) -> None:
    if entry.right:
        state.ratios.setdefault(number, []).extend(entry.ratios)
        state.nanoseconds[number] = entry.nanoseconds
    else:
        state.wrong.add(number)


def _close(state: LayerState) -> None:
    """End a round of a layer: the better half stays; the ratio of the rule's choice to itself is 1."""
    scores = {number: state.ratios.get(number, ()) for number in state.alive if number not in state.wrong}
    state.alive = better_half({**scores, 0: (1.0,)} if 0 in scores else scores)
    if len(state.alive) == 2 and 0 in state.alive and state.rounds >= 2:
        state.alive = [number for number in state.alive if number == state.best]
    state.rounds += 1


def _round(number: int, states: Mapping[str, LayerState], *, base: Path, means: SearchTools) -> None:
    """Measure every variant of a round that was not measured in it before."""
    waiting = {
        key: [each for each in state.alive if each and each not in state.wrong and not _is_done(state, each, number)]
        for key, state in states.items()
    }
    shuffle = random.Random(number)  # noqa: S311 (an order, not a secret)
    for queue in waiting.values():
        shuffle.shuffle(queue)
    width = max(map(len, waiting.values()), default=0)
    programs = [{key: queue[place] for key, queue in waiting.items() if place < len(queue)} for place in range(width)]
    for start in range(0, width, CHUNK):
        _measure(number, programs[start : start + CHUNK], states, base=base, means=means)


def _is_done(state: LayerState, variant: int, number: int) -> bool:
    return len(state.ratios.get(variant, ())) >= sum(runs_in(each) for each in range(number + 1))


def _measure(
    number: int, numbers: Sequence[dict[str, int]], states: Mapping[str, LayerState], *, base: Path, means: SearchTools
) -> None:
    folders = means.builders.build([_choices(each, states) for each in numbers])
    sound: list[tuple[Path, dict[str, int]]] = []
    bad: list[tuple[str, int]] = []
    for folder, each in zip(folders, numbers, strict=True):
        if folder is not None and means.agrees(folder):
            sound.append((folder, each))
            continue
        culprits = find_culprits(each, lambda part: _is_sound(part, states, means))
        bad += culprits.items()
        rest = {key: variant for key, variant in each.items() if key not in culprits}
        mended = means.builders.build([_choices(rest, states)])[0] if rest else None
        if mended is not None and means.agrees(mended):
            sound.append((mended, rest))
    ratios, times = _in_turn(sound, base=base, sweeps=runs_in(number), means=means)
    entries = [
        MeasuredChoice(
            layer=key,
            choice=states[key].variants[variant],
            round=number,
            ratios=tuple(round(ratio, 4) for ratio in ratios.get((key, variant), ())),
            nanoseconds=round(times.get((key, variant), 0)),
            right=(key, variant) not in bad,
        )
        for key, variant in [*bad, *((key, variant) for _, each in sound for key, variant in each.items())]
    ]
    for entry, (key, variant) in zip(
        entries, [*bad, *((key, variant) for _, each in sound for key, variant in each.items())], strict=True
    ):
        _take(states[key], variant, entry)
    means.note(entries)
    for folder in {*filter(None, folders), *(folder for folder, _ in sound)}:
        shutil.rmtree(folder, ignore_errors=True)


def _in_turn(
    programs: Sequence[tuple[Path, dict[str, int]]], *, base: Path, sweeps: int, means: SearchTools
) -> tuple[dict[tuple[str, int], list[float]], dict[tuple[str, int], float]]:
    """Run programs in turn, the untuned one between them; return the ratios to it, and the median times."""
    ratios: dict[tuple[str, int], list[float]] = {}
    times: dict[tuple[str, int], list[float]] = {}

    def timed(folder: Path) -> Times:
        means.spend()
        return times_by_layer(folder, means.run(folder))

    for _ in range(sweeps):
        before = timed(base)
        for start in range(0, len(programs), BETWEEN_BASES):
            group = [(each, timed(folder)) for folder, each in programs[start : start + BETWEEN_BASES]]
            after = timed(base)
            for each, found in group:
                for key, variant in each.items():
                    reference = (before.get(key, 0.0) + after.get(key, 0.0)) / 2
                    if reference > 0 and key in found:
                        ratios.setdefault((key, variant), []).append(found[key] / reference)
                        times.setdefault((key, variant), []).append(found[key])
            before = after
    return ratios, {each: statistics.median(found) for each, found in times.items()}


def _choices(numbers: Mapping[str, int], states: Mapping[str, LayerState]) -> dict[str, Mapping[str, Any]]:
    return {key: states[key].variants[number] for key, number in numbers.items()}


def _is_sound(numbers: Mapping[str, int], states: Mapping[str, LayerState], means: SearchTools) -> bool:
    folder = means.builders.build([_choices(numbers, states)])[0]
    if folder is None:
        return False
    try:
        return means.agrees(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_culprits(numbers: Mapping[str, int], is_sound: Callable[[Mapping[str, int]], bool]) -> dict[str, int]:
    """Return the members of a set that is not sound which spoil it, by halving it again and again.

    Args:
        numbers: layer -> variant; as a whole not sound.
        is_sound: says it of a part.
    """
    if len(numbers) == 1:
        return dict(numbers)
    keys = list(numbers)
    found: dict[str, int] = {}
    for part in (keys[: math.ceil(len(keys) / 2)], keys[math.ceil(len(keys) / 2) :]):
        half = {key: numbers[key] for key in part}
        if not is_sound(half):
            found |= find_culprits(half, is_sound)
    return found
