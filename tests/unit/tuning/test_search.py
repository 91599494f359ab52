"""The search: halving under noise, what an interrupted search knows, wrong variants, the budget, the table."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfarm.cli import tuning as faces
from crossfarm.errors import ConfigError
from crossfarm.tuning.build_worker import LayerVariants
from crossfarm.tuning.records import MeasuredChoice, TakenChoices
from crossfarm.tuning.search import Stopped, best_choices, estimate, find_culprits, states_of
from crossfarm.tuning.session import budget_of
from crossfarm.tuning.successive_halving import better_half, median_interval, runs_in, score
from crossfarm.tuning.tune_cell import Budget
from crossfarm.tuning.tune_table import LayerRow, TunedCell, kind_of, table


def halve(times: Sequence[float], noise: random.Random) -> tuple[int, int]:
    """Return the variant that is left and the number of runs, when a run takes its time and sometimes much longer."""
    ratios: dict[int, list[float]] = {number: [] for number in range(len(times))}
    alive, runs = list(ratios), 0
    for number in range(len(times)):
        if len(alive) == 1:
            break
        for variant in alive:
            for _ in range(runs_in(number)):
                disturbed = 1 + abs(noise.gauss(0, 0.02)) + (0.5 if noise.random() < 0.05 else 0)
                ratios[variant].append(times[variant] * disturbed)
                runs += 1
        alive = better_half({variant: ratios[variant] for variant in alive})
    return alive[0], runs


@settings(max_examples=40)
@given(times=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_halving_finds_a_variant_near_the_best_and_stays_below_fifty_runs(times: list[float], seed: int) -> None:
    noise = random.Random(seed)
    found = [halve(times, noise) for _ in range(9)]
    # A single run may be unlucky, the median of nine is not: 10 % is three times the noise of one run and its outlier.
    assert statistics.median(times[chosen] for chosen, _ in found) <= 1.1 * min(times)
    assert all(runs <= 50 for _, runs in found)


@given(st.dictionaries(st.integers(0, 30), st.lists(st.floats(0.1, 10), max_size=5), min_size=1))
def test_half_of_the_variants_stay_and_none_of_them_is_worse_than_one_that_goes(ratios: dict[int, list[float]]) -> None:
    stay = better_half(ratios)
    assert len(stay) == -(-len(ratios) // 2)
    worst = max(score(ratios[variant]) for variant in stay)
    assert all(score(ratios[variant]) >= worst for variant in ratios.keys() - set(stay))


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=30))
def test_the_median_lies_within_its_interval(values: list[float]) -> None:
    interval = median_interval(values, resamples=200)
    assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    draw = random.Random(5)
    hits = 0
    for number in range(100):
        interval = median_interval([draw.gauss(1.0, 0.1) for _ in range(21)], resamples=300, seed=number)
        hits += interval.low <= 1.0 <= interval.high
    assert hits >= 85


@given(st.dictionaries(st.text("abcdef", min_size=1), st.booleans(), min_size=1, max_size=12))
def test_all_culprits_and_nobody_else_are_found(wrong: dict[str, bool]) -> None:
    numbers = dict.fromkeys(wrong, 1)

    def is_sound(part: Mapping[str, int]) -> bool:
        return not any(wrong[key] for key in part)

    if not is_sound(numbers):
        assert set(find_culprits(numbers, is_sound)) == {key for key, spoils in wrong.items() if spoils}


LAYERS = (LayerVariants(key="a", variants=tuple({"rows": rows} for rows in range(4))),)


def entry(rows: int, number: int, *ratios: float, right: bool = True) -> MeasuredChoice:
    return MeasuredChoice(layer="a", choice={"rows": rows}, round=number, ratios=ratios, nanoseconds=100, right=right)


def test_a_search_goes_on_where_its_records_end() -> None:
    first = [entry(1, 0, 0.9), entry(2, 0, 1.2), entry(3, 0, 0.8)]
    state = states_of(LAYERS, shared={}, known=first[:2])["a"]
    assert (state.rounds, state.alive) == (0, [0, 1, 2, 3])
    assert state.ratios == {1: [0.9], 2: [1.2]}
    state = states_of(LAYERS, shared={}, known=first)["a"]
    assert (state.rounds, state.alive, state.best) == (1, [3, 1], 3)
    state = states_of(LAYERS, shared={}, known=[*first, entry(1, 1, 0.7, 0.7), entry(3, 1, 0.95, 0.95)])["a"]
    assert (state.rounds, state.alive, state.best) == (2, [1], 1)


def test_a_variant_that_is_wrong_never_wins() -> None:
    known = [entry(1, 0, 0.9), entry(2, 0, right=False), entry(3, 0, 1.1)]
    states = states_of(LAYERS, shared={}, known=known)
    assert states["a"].wrong == {2}
    assert states["a"].alive == [1, 0]
    assert best_choices(states) == {"a": {"rows": 1}}
    assert estimate(states) == pytest.approx(0.9)


def test_what_is_hardly_faster_stays_the_rule_s() -> None:
    assert best_choices(states_of(LAYERS, shared={}, known=[entry(n, 0, 0.99) for n in (1, 2, 3)])) == {}


def test_a_choice_of_another_model_is_compared_and_not_searched_again() -> None:
    state = states_of(LAYERS, shared={"a": {"rows": 9}}, known=[])["a"]
    assert state.variants == ({"rows": 0}, {"rows": 9})
    assert states_of(LAYERS, shared={"a": {"rows": 0}}, known=[]) == {}


def test_records_of_variants_that_are_no_more_are_passed_over() -> None:
    assert states_of(LAYERS, shared={}, known=[entry(77, 0, 0.5)])["a"].ratios == {}


def test_a_budget_is_minutes_or_runs() -> None:
    budget = budget_of("2runs")
    budget.spend()
    budget.spend()
    with pytest.raises(Stopped):
        budget.spend()
    minutes = budget_of("0.5").deadline
    assert minutes is not None
    assert 0 < minutes - time.monotonic() <= 30
    assert budget_of("") == Budget()


@pytest.mark.parametrize("text", ["-1", "0", "soon", "3 hours", "nan"])
def test_any_other_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give minutes"):
        budget_of(text)


def test_the_table_says_what_was_tried_and_what_was_decided() -> None:
    taken = TakenChoices(choices={"a": {}}, ratio=0.9, interval=(0.88, 0.93), pairs=11, runs=40, machine="m")
    outcome = TunedCell(
        cell="t-m-float32",
        rows=(
            LayerRow(
                layer="a",
                tried=("direct",) * 9 + ("Winograd", "im2col", "Winograd"),
                wrong=1,
                before=2e6,
                after=1e6,
                share=0.5,
            ),
        ),
        taken=taken,
        is_better=True,
        seconds=60,
        is_emulated=False,
    )
    lines = table(outcome).splitlines()
    assert lines[2].split() == ["12", "2.000", "1.000", "50.0%", "a"]
    assert lines[3] == "variants tried: 9 direct, 1 im2col, 2 Winograd"
    assert lines[4].startswith("1 variants gave wrong outputs")
    assert lines[5] == "tuned / untuned 0.900 (0.880 to 0.930 with 95 % confidence, 11 pairs): taken; 40 runs in 60 s"
    assert table(dataclasses.replace(outcome, is_emulated=True)).splitlines()[-1] == "not measured on silicon"


def test_the_kind_of_a_choice_is_told_by_its_fields() -> None:
    kinds = ({"rows": 4}, {"rows": 4, "depth_block": 16}, {"gathered_rows": 2}, {"tile": 4, "strip": 2}, {"strip": 7})
    assert [kind_of(choice) for choice in kinds] == ["direct", "NCHWc", "im2col", "Winograd", "direct"]


def test_tune_takes_its_own_options_and_those_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        "crossfarm.tuning.session.tune_cells", lambda cells, session: seen.append((cells, session)) or 0
    )
    faces.tune.body(None, targets="x86_64", only="x86_64-mnist_cnn-float32", budget="7runs", threads="2", again=True)
    [(cells, session)] = seen
    assert [cell.id for cell in cells] == ["x86_64-mnist_cnn-float32"]
    assert (session.budget.most_runs, session.threads, session.again, session.emulated) == (7, 2, True, False)
