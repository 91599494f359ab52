"""The hint with the nearest name: right where names are few and short, and never slow where a stranger chose them."""

from __future__ import annotations

import time

from crossfarm.errors import nearest


def test_the_nearest_name_is_told() -> None:
    assert nearest("cortexa53", ["cortex-a53", "generic"]) == "; perhaps you meant 'cortex-a53'"
    assert nearest("zzz", ["cortex-a53", "generic"]) == ""


def test_a_million_names_or_names_of_a_megabyte_are_compared_in_bounded_time() -> None:
    started = time.process_time()
    nearest("input", (f"input_{number}" for number in range(1_000_000)))
    assert nearest("a" * 1_000_000, ["b" * 1_000_000, "a" * 999_999]) == ""
    nearest("ab" * 50, ["ba" * 500_000] * 100)
    assert time.process_time() - started < 5
