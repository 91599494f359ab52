"""Verdicts: each word for its own case, the same however the noise falls, and no gate without a confirmation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.reports.regression.rules import RULES, Rule, rule_of
from crossfarm.reports.regression.verdicts import Confirmation, Value, Verdict, confirmed, judge
from tests.unit.reports.kept_runs import latencies

NAN, INFINITE = math.nan, math.inf


def rule(name: str) -> Rule:
    found = rule_of(name)
    assert found is not None
    return found


def value(samples: Sequence[float]) -> Value:
    return Value(value=sorted(samples)[len(samples) // 2], samples=tuple(samples))


def latency(old: Sequence[Sequence[float]], new: Sequence[float]) -> Verdict:
    return judge(rule("latency.p50"), [value(samples) for samples in old], value(new))


@pytest.mark.parametrize(
    ("median", "cv", "word"),
    [
        (1.00e6, 0.02, "unchanged"),
        (1.10e6, 0.02, "regressed"),
        (0.90e6, 0.02, "improved"),
        (1.01e6, 0.002, "unchanged"),
        (1.00e6, 0.30, "inconclusive"),
    ],
)
def test_each_word_has_its_case(median: float, cv: float, word: str) -> None:
    for seed in range(20):
        found = latency([latencies(seed, cv=cv)], latencies(1000 + seed, median=median, cv=cv))
        assert found.word == word
        assert found.change == pytest.approx(found.new / (found.old or 1) - 1)


def test_a_significant_change_that_is_small_is_no_regression() -> None:
    found = latency([latencies(1, cv=0.001)], latencies(2, median=1.02e6, cv=0.001))
    assert "p 2" in found.reason or "e-" in found.reason
    assert found.word == "unchanged"


def test_a_large_change_that_is_not_significant_is_no_regression() -> None:
    assert (
        latency([latencies(1, cv=0.5, count=12)], latencies(5, median=1.2e6, cv=0.5, count=12)).word == "inconclusive"
    )


def test_what_came_out_of_the_store_was_not_measured_again() -> None:
    found = latency([latencies(1), latencies(2)], latencies(1))
    assert (found.word, found.reason) == ("unchanged", "not measured again")


@pytest.mark.parametrize(
    "samples",
    [(), latencies(1, count=9), (NAN, *latencies(1)), (INFINITE, *latencies(1)), (0.0, *latencies(1)), (-1.0,) * 30],
)
def test_samples_that_cannot_be_judged_are_inconclusive(samples: tuple[float, ...]) -> None:
    now = Value(value=2e6, samples=samples)
    before = value(latencies(2))
    assert judge(rule("latency.p50"), [before], now).word == "inconclusive"
    assert judge(rule("latency.p50"), [now], value(latencies(3))).word == "inconclusive"


def test_a_board_that_differs_from_day_to_day_must_differ_more() -> None:
    days = [0.95, 1.04, 1.0, 0.96, 1.05, 1.01]
    steady = [latencies(seed, cv=0.005) for seed in range(6)]
    moody = [latencies(seed, median=day * 1e6, cv=0.005) for seed, day in enumerate(days)]
    now = latencies(99, median=1.06e6, cv=0.005)
    assert latency(steady, now).word == "regressed"
    assert latency(moody, now).word != "regressed"
    assert latency(moody, latencies(99, median=1.5e6)).word == "regressed"


def _candidate() -> Verdict:
    return latency([latencies(1)], latencies(2, median=1.1e6))


def test_a_regression_of_the_latency_gates_when_it_is_confirmed() -> None:
    found = confirmed(_candidate(), rule("latency.p50"), Confirmation(old=latencies(3), new=latencies(4, median=1.1e6)))
    assert (found.word, found.gates) == ("regressed", True)
    assert "confirmed in turns: +" in found.reason


def test_without_a_confirmation_it_is_unconfirmed_and_does_not_gate() -> None:
    found = confirmed(_candidate(), rule("latency.p50"), "the bundle is gone")
    assert (found.word, found.gates) == ("unconfirmed", False)
    assert found.reason.endswith("; the bundle is gone")


def test_what_is_not_seen_again_is_inconclusive_and_does_not_gate() -> None:
    found = confirmed(_candidate(), rule("latency.p50"), Confirmation(old=latencies(3), new=latencies(4)))
    assert (found.word, found.gates) == ("inconclusive", False)
    assert "when both bundles take turns" in found.reason


@pytest.mark.parametrize("samples", [(), latencies(1, count=3), (NAN,) * 30])
def test_a_confirmation_without_samples_confirms_nothing(samples: tuple[float, ...]) -> None:
    found = confirmed(_candidate(), rule("latency.p50"), Confirmation(old=latencies(3), new=samples))
    assert (found.word, found.gates) == ("unconfirmed", False)


def test_only_a_regression_of_the_latency_is_confirmed() -> None:
    better = latency([latencies(1)], latencies(2, median=0.8e6))
    assert confirmed(better, rule("latency.p50"), "") == better
    larger = judge(rule("program"), [Value(value=1e6)], Value(value=2e6))
    assert confirmed(larger, rule("program"), "") == larger
    assert larger.gates


@pytest.mark.parametrize(
    ("name", "old", "new", "word", "gates"),
    [
        ("program", 300_000, 302_000, "unchanged", False),
        ("program", 300_000, 304_000, "regressed", True),
        ("program", 300_000, 290_000, "improved", False),
        ("arena", 1000, 2000, "unchanged", False),
        ("arena", 1000, 2025, "regressed", True),
        ("weights", 0, 4096, "regressed", True),
        ("accuracy.top1.digits", 0.90, 0.90, "unchanged", False),
        ("accuracy.top1.digits", 0.90, 0.895, "unchanged", False),
        ("accuracy.top1.digits", 0.90, 0.89, "regressed", True),
        ("accuracy.top1.digits", 0.90, 0.91, "improved", False),
        ("text.lines", 1.0, 0.9, "regressed", True),
        ("ladder.quantised.agreement", 0.99, 0.95, "regressed", True),
        ("accuracy.max_abs_diff.y", 1e-7, 9e-7, "unchanged", False),
        ("accuracy.max_abs_diff.y", 2e-6, 3.9e-6, "unchanged", False),
        ("accuracy.max_abs_diff.y", 2e-6, 5e-6, "regressed", True),
        ("cycles.simulated", 1_000_000, 1_000_900, "unchanged", False),
        ("cycles.simulated", 1_000_000, 1_002_000, "regressed", True),
        ("cycles.estimated", 1_000_000, 2_000_000, "regressed", False),
        ("compile_time", 10, 14, "unchanged", False),
        ("compile_time", 10, 16, "regressed", False),
        ("compile_time", 1, 2.9, "unchanged", False),
        ("peak_rss", 10e6, 10.9e6, "unchanged", False),
        ("peak_rss", 10e6, 12e6, "regressed", True),
        ("program", 300_000, NAN, "regressed", True),
        ("program", NAN, 300_000, "improved", False),
        ("program", NAN, INFINITE, "inconclusive", False),
        ("accuracy.max_abs_diff.y", 1e-7, INFINITE, "regressed", True),
    ],
)
def test_other_numbers_have_rules_of_their_own(name: str, old: float, new: float, word: str, gates: bool) -> None:
    found = judge(rule(name), [Value(value=old)], Value(value=new))
    assert (found.word, found.gates) == (word, gates)


def test_a_noisy_number_is_held_against_the_median_of_the_runs_before() -> None:
    before = [Value(value=seconds) for seconds in (10.0, 11.0, 90.0, 10.0, 9.0)]
    assert judge(rule("compile_time"), before, Value(value=14.0)).word == "unchanged"
    assert judge(rule("compile_time"), before, Value(value=16.0)).word == "regressed"
    unsteady = [Value(value=seconds) for seconds in (10.0, 20.0, 5.0, 15.0, 9.0, 16.0)]
    assert judge(rule("compile_time"), unsteady, Value(value=22.0)).word == "unchanged"


def test_numbers_without_a_rule_are_not_judged() -> None:
    assert [rule_of(name) for name in ("latency.min", "latency.n", "verify_time", "accuracy.cosine.y", "")] == [
        None
    ] * 5


def test_only_what_a_rule_says_gates() -> None:
    assert {entry.names for entry in RULES if not entry.gates} == {"cycles.estimated", "load_time", "compile_time"}


@given(
    st.sampled_from(RULES),
    st.lists(st.tuples(st.floats(), st.lists(st.floats(), max_size=12).map(tuple)), min_size=1, max_size=3),
    st.floats(),
    st.lists(st.floats(), max_size=12).map(tuple),
)
def test_any_numbers_get_a_verdict(
    of: Rule, before: list[tuple[float, tuple[float, ...]]], now: float, samples: tuple[float, ...]
) -> None:
    found = judge(of, [Value(value=old, samples=times) for old, times in before], Value(value=now, samples=samples))
    assert found.gates <= (found.word == "regressed")
