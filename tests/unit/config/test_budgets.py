"""Budgets: once or by target, sizes in words, and what is no budget."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from crossfarm.config.budgets import Budgets


def test_a_limit_is_given_once_or_by_target() -> None:
    budgets = Budgets.model_validate({"latency_p50": {"armv7": 40.0}, "program": "600 KiB", "cycles": 1000})
    assert budgets.of_target("armv7") == {"latency_p50": 40.0, "program": 600 * 1024, "cycles": 1000}
    assert budgets.of_target("x86_64") == {"program": 600 * 1024, "cycles": 1000}


@pytest.mark.parametrize(
    ("text", "size"), [("1 B", 1), ("1.5 MiB", 3 * 2**19), ("2GiB", 2**31), ("300 KiB", 307_200), (512, 512)]
)
def test_sizes_are_bytes_or_said_in_words(text: object, size: int) -> None:
    assert Budgets.model_validate({"arena": text}).of_target("t") == {"arena": size}


@pytest.mark.parametrize("value", ["300 kB", "1,5 MiB", "-1 KiB", "", "KiB", 0, -5, True, 1.5, {"armv7": "x"}])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Budgets.model_validate({"weights": value})


@pytest.mark.parametrize("value", [0, -1.0, "5 ms", float("nan"), float("inf"), {"armv7": 0.0}])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Budgets.model_validate({"latency_p50": value})
