"""What a job hands to its stage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from crossfarm.errors import ModelError, UnfitError
from crossfarm.stages.job import Job, failed, read_outcome


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


@pytest.mark.parametrize(("error", "is_unfit"), [(UnfitError("too large"), True), (ModelError("not ONNX"), False)])
def test_only_what_is_not_for_its_target_is_told_as_that_and_it_survives_the_file(
    tmp_path: Path, error: ModelError, is_unfit: bool
) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps(dataclasses.asdict(failed(error, 0.5))))
    outcome = read_outcome(tmp_path / "job.json")
    assert outcome is not None
    assert (outcome.good, outcome.is_unfit, outcome.cause) == (False, is_unfit, str(error))
