"""What a job hands to its stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.stages.job import Job


def _job(**parameters: object) -> Job:
    return Job(
        id="bundle:cell", stage="bundle", key="0", parameters=parameters, inputs={}, output=Path("o"), root=Path("r")
    )


def test_a_group_is_found_by_its_kind() -> None:
    job = _job(**{"model mnist": 1, "toolchain armv7": 2, "measure": 3})
    assert [job.group(kind) for kind in ("model", "toolchain", "measure")] == [1, 2, 3]


def test_a_kind_is_a_whole_word() -> None:
    with pytest.raises(KeyError, match="no parameter group 'mod'"):
        _job(**{"model mnist": 1}).group("mod")
