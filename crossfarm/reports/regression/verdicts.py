"""The verdict about one number of one cell: regressed, improved, unchanged or inconclusive. Pure functions.

A latency has regressed only when it is slower by more than its rule allows (effect size), when the samples could hardly
differ so by chance (significance), and when a fresh run of both bundles in turns shows it again (confirmation).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import median
from typing import Literal, Protocol

from crossfarm.reports.regression.rules import Rule
from crossfarm.reports.regression.statistics import Difference, difference, robust_spread

Word = Literal["regressed", "unconfirmed", "improved", "unchanged", "inconclusive"]
"""`unconfirmed`: it looks like a regression of the latency that no confirmation was run for; it does not gate."""

P_VALUE = 0.001
"""At most so many of a thousand comparisons of a program with itself pass the test of significance, one-sided half."""
CONFIDENCE = 0.99
FEWEST_SAMPLES = 10
_RUNS_FOR_NOISE = 5
_NOISE_FACTOR = 3.0
"""A change within three standard deviations of what the runs before differ by among themselves is none."""


class Sampled(Protocol):
    """A number of one run: a Value, or what the history kept."""

    @property
    def value(self) -> float:
        """Return it."""

    @property
    def samples(self) -> tuple[float, ...]:
        """Return the raw samples; empty where there are none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """One number of one run.

    Attributes:
        value: of the run.
        samples: the raw ones; empty where there are none.
    """

    value: float
    samples: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What a confirmation measured: both bundles in turns on one board in one lease.

    Attributes:
        old: samples of the old bundle, in ns; `new` likewise.
    """

    old: tuple[float, ...]
    new: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be said about a number.

    Attributes:
        word: see Word.
        old: value before; None where there is none.
        new: value now.
        change: new over old, less 1; NaN where that says nothing.
        reason: what the word rests on, in a few words.
        gates: it fails the comparison.
    """

    word: Word
    old: float | None
    new: float
    change: float
    reason: str
    gates: bool = False


def judge(rule: Rule, earlier: Sequence[Sampled], now: Sampled) -> Verdict:
    """Return the verdict about a number; that about a latency is yet to be confirmed, see `confirmed`.

    Args:
        rule: of the number.
        earlier: the values of runs before, oldest first, at least one; all of one board.
        now: the value to be judged.
    """
    if rule.method == "samples":
        return _judge_samples(rule, earlier, now)
    if rule.method == "exact":
        return _judge_value(rule, earlier[-1].value, now.value, spread=0.0, of="the run before")
    finite = [item.value for item in earlier if math.isfinite(item.value)]
    if not finite:
        return _not_finite(rule, earlier[-1].value, now.value)
    old, spread = median(finite), robust_spread(finite) if len(finite) >= _RUNS_FOR_NOISE else 0.0
    of = "the run before" if len(finite) == 1 else f"the median of {len(finite)} runs"
    return _judge_value(rule, old, now.value, spread=spread, of=of)


def confirmed(verdict: Verdict, rule: Rule, confirmation: Confirmation | str) -> Verdict:
    """Return the verdict about a latency after its confirmation.

    Only a regression needs one. Without it the verdict is `unconfirmed`; when both bundles are as fast when they take
    turns, it was the board or the day, and the verdict is `inconclusive`.

    Args:
        verdict: from `judge`.
        rule: of the number.
        confirmation: what was measured; or in a few words why nothing was.
    """
    if verdict.word != "regressed" or rule.method != "samples":
        return verdict
    if isinstance(confirmation, str):
        return dataclasses.replace(verdict, word="unconfirmed", gates=False, reason=f"{verdict.reason}; {confirmation}")
    if not _usable(confirmation.old) or not _usable(confirmation.new):
        return dataclasses.replace(
            verdict, word="unconfirmed", gates=False, reason=f"{verdict.reason}; too few samples to confirm it"
        )
    again = _word(rule, difference(confirmation.old, confirmation.new, confidence=CONFIDENCE), rule.relative)
    found = median(confirmation.new) / median(confirmation.old) - 1
    if again == "regressed":
        return dataclasses.replace(verdict, reason=f"{verdict.reason}; confirmed in turns: {found:+.1%}")
    return dataclasses.replace(
        verdict,
        word="inconclusive",
        gates=False,
        reason=f"{verdict.reason}; but {found:+.1%} when both bundles take turns",
    )


def _judge_samples(rule: Rule, earlier: Sequence[Sampled], now: Sampled) -> Verdict:
    old = median([item.value for item in earlier])
    change = _change(old, now.value)
    if any(item.samples == now.samples for item in earlier if item.samples):
        return Verdict(word="unchanged", old=old, new=now.value, change=change, reason="not measured again")
    distinct = {item.samples: item for item in earlier if _usable(item.samples)}
    pooled = [sample for item in distinct.values() for sample in item.samples]
    if not pooled or not _usable(now.samples):
        reason = f"fewer than {FEWEST_SAMPLES} samples, or some that are no times"
        return Verdict(word="inconclusive", old=old, new=now.value, change=change, reason=reason)
    found = difference(pooled, now.samples, confidence=CONFIDENCE)
    limit = rule.relative
    medians = [median(item.samples) for item in distinct.values()]
    if len(medians) >= _RUNS_FOR_NOISE:
        limit = max(limit, _NOISE_FACTOR * robust_spread(medians) / median(medians))
    word = _word(rule, found, limit)
    interval = f"{found.low - 1:+.1%} to {found.high - 1:+.1%}"
    runs = f"{len(distinct)} runs" if len(distinct) > 1 else "1 run"
    return Verdict(
        word=word,
        old=median(pooled),
        new=median(now.samples),
        change=found.ratio - 1,
        reason=f"against {runs}: {interval}, p {found.p_value:.2g}, limit {limit:.1%}",
        gates=word == "regressed" and rule.gates,
    )


def _word(rule: Rule, found: Difference, limit: float) -> Word:
    """Return the word for a difference of samples of which less is better, or more."""
    is_significant = found.p_value < P_VALUE
    if is_significant and found.ratio > 1 + limit and found.low > 1:
        return "improved" if rule.is_better_higher else "regressed"
    # As far down as up on a scale of ratios, so that a change and its way back get opposite words.
    if is_significant and found.ratio < 1 / (1 + limit) and found.high < 1:
        return "regressed" if rule.is_better_higher else "improved"
    if found.low > 1 / (1 + limit) and found.high < 1 + limit:
        return "unchanged"
    return "inconclusive"


def _judge_value(rule: Rule, old: float, new: float, *, spread: float, of: str) -> Verdict:
    if not math.isfinite(old) or not math.isfinite(new):
        return _not_finite(rule, old, new)
    limit = max(rule.absolute, rule.relative * abs(old), _NOISE_FACTOR * spread)
    worse = old - new if rule.is_better_higher else new - old
    # Shares are sums of binary fractions: what is equal to the limit on paper may be a little more.
    margin = limit + 1e-12 * max(abs(old), abs(new))
    word: Word = "regressed" if worse > margin else "improved" if -worse > margin else "unchanged"
    return Verdict(
        word=word,
        old=old,
        new=new,
        change=_change(old, new),
        reason=f"against {of}; limit {limit:.4g}",
        gates=word == "regressed" and rule.gates,
    )


def _not_finite(rule: Rule, old: float, new: float) -> Verdict:
    """Judge where a number is NaN or infinite: to become so is a regression, and to become a number again none."""
    is_old, is_new = math.isfinite(old), math.isfinite(new)
    word: Word = "regressed" if is_old and not is_new else "improved" if is_new and not is_old else "inconclusive"
    reason = "it is not finite" if not is_new else "it was not finite before"
    return Verdict(
        word=word, old=old, new=new, change=math.nan, reason=reason, gates=word == "regressed" and rule.gates
    )


def _usable(samples: Sequence[float]) -> bool:
    # The sum is finite only when every sample is.
    return len(samples) >= FEWEST_SAMPLES and math.isfinite(sum(samples)) and min(samples) > 0


def _change(old: float, new: float) -> float:
    return new / old - 1 if old and math.isfinite(old) and math.isfinite(new) else math.nan
