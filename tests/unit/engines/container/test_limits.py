"""What a job in a container may use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.engines.container.limits import GIB, LEAST, MOST_BY_ITSELF, limits_for, machine_memory
from crossfarm.errors import ConfigError


@given(slots=st.integers(1, 500))
def test_containers_that_run_side_by_side_fit_the_machine(slots: int) -> None:
    limits = limits_for(slots=slots)
    assert LEAST <= limits.memory <= MOST_BY_ITSELF
    assert limits.memory == LEAST or limits.memory * slots <= machine_memory()
    assert limits.cpus >= 1


def test_the_user_may_say_how_much_memory_a_job_takes() -> None:
    assert limits_for(slots=4, memory_gib=2.5).memory == 2.5 * GIB


@pytest.mark.parametrize("little", [0.01, -1.0])
def test_too_little_memory_is_refused_before_anything_runs(little: float) -> None:
    with pytest.raises(ConfigError, match="--memory"):
        limits_for(slots=1, memory_gib=little)
