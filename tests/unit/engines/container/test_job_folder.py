"""The folder of a container: what a job left is not trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.engines.container.job_folder import INPUTS, WRITABLE, ContainerFolder
from crossfarm.stages.job import Job, Outcome
from crossfarm.util.trees import TreeLimits

GOOD = {"good": True, "seconds": 1.5, "cause": "", "fault": None}


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """Return the file of a job that is laid out with one input."""
    folder = tmp_path / "compile-a"
    (folder / "inputs" / "0").mkdir(parents=True)
    (folder / "inputs" / "0" / "model.onnx").write_text("model")
    (folder / "output").mkdir()
    Job(
        id="compile:a",
        stage="compile",
        key="k",
        parameters={"toolchain x": {"cpu": "y"}},
        inputs={"prepare": folder / "inputs" / "0"},
        output=folder / "output",
        root=tmp_path,
        image="d",
    ).write(folder / "job.json")
    return folder / "job.json"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[ContainerFolder]:
    made = ContainerFolder(tmp_path / "box")
    yield made
    made.remove()


def test_a_job_names_its_folders_as_the_container_sees_them(box: ContainerFolder, job_file: Path) -> None:
    box.put_in(job_file)
    seen = Job.read(box.writable / "job.json")
    assert seen.inputs == {"prepare": INPUTS / "inputs" / "0"}
    assert seen.output == WRITABLE / "output"
    assert seen.parameters == {"toolchain x": {"cpu": "y"}}
    assert (box.inputs / "inputs" / "0" / "model.onnx").read_text() == "model"


def test_what_a_job_wrote_comes_back_to_its_own_folder(box: ContainerFolder, job_file: Path, tmp_path: Path) -> None:
    box.put_in(job_file)
    (box.writable / "output" / "model.o").write_text("code")
    (box.writable / "outcome.json").write_text(json.dumps(GOOD))
    (box.writable / "log").write_text("first\nlast\n")
    assert box.take_out(job_file, tmp_path / "log") == Outcome(**GOOD)  # type: ignore[arg-type]
    assert (job_file.parent / "output" / "model.o").read_text() == "code"
    assert (tmp_path / "log").read_text() == "first\nlast\n"
    assert box.last_lines() == "first / last"


def test_a_box_is_empty_again_after_a_job_also_where_that_closed_its_folders(
    box: ContainerFolder, job_file: Path
) -> None:
    box.put_in(job_file)
    closed = box.writable / "output" / "a" / "b"
    closed.mkdir(parents=True)
    closed.parent.chmod(0)
    box.clear()
    assert list(box.writable.iterdir()) == []
    assert list(box.inputs.iterdir()) == []


def test_an_output_that_became_a_link_is_not_followed(box: ContainerFolder, job_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("secret")
    box.put_in(job_file)
    (box.writable / "output").rmdir()
    (box.writable / "output").symlink_to(home)
    (box.writable / "outcome.json").write_text(json.dumps(GOOD))
    outcome = box.take_out(job_file, tmp_path / "log")
    assert outcome is not None
    assert not outcome.good
    box.clear()
    assert (home / "secret").read_text() == "secret"


def test_a_log_that_became_a_link_shows_only_what_the_job_wrote(
    box: ContainerFolder, job_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    box.put_in(job_file)
    (box.writable / "log").write_text("said")
    (box.writable / "log").unlink()
    (box.writable / "log").symlink_to(tmp_path / "secret")
    box.take_out(job_file, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "said"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"good": true}', "x" * 100_000, json.dumps({**GOOD, "seconds": "x"})]
)
def test_an_outcome_that_is_not_whole_is_none(
    box: ContainerFolder, job_file: Path, tmp_path: Path, content: str
) -> None:
    box.put_in(job_file)
    (box.writable / "outcome.json").write_text(content)
    assert box.take_out(job_file, tmp_path / "log") is None


def test_an_outcome_that_is_a_pipe_is_none(box: ContainerFolder, job_file: Path, tmp_path: Path) -> None:
    box.put_in(job_file)
    os.mkfifo(box.writable / "outcome.json")
    assert box.take_out(job_file, tmp_path / "log") is None


def test_an_outcome_that_is_a_link_is_none(box: ContainerFolder, job_file: Path, tmp_path: Path) -> None:
    box.put_in(job_file)
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD))
    (box.writable / "outcome.json").symlink_to(tmp_path / "elsewhere")
    assert box.take_out(job_file, tmp_path / "log") is None


def test_a_cause_that_a_job_invents_is_one_short_line(box: ContainerFolder, job_file: Path, tmp_path: Path) -> None:
    box.put_in(job_file)
    text = json.dumps({"good": False, "seconds": 1, "cause": "a\nb" * 9000, "fault": "yours"})
    (box.writable / "outcome.json").write_text(text)
    outcome = box.take_out(job_file, tmp_path / "log")
    assert outcome is not None
    assert outcome.fault is None
    assert "\n" not in outcome.cause
    assert len(outcome.cause) <= 500


def test_an_outcome_that_accuses_a_board_or_has_no_time_is_taken_without_that(
    box: ContainerFolder, job_file: Path, tmp_path: Path
) -> None:
    box.put_in(job_file)
    text = '{"good": "yes", "seconds": NaN, "cause": "", "fault": "product", "is_board_fault": true}'
    (box.writable / "outcome.json").write_text(text)
    assert box.take_out(job_file, tmp_path / "log") == Outcome(good=False, seconds=0.0, fault="product")


def test_more_than_a_job_may_write_is_told_wherever_it_wrote_it(box: ContainerFolder, job_file: Path) -> None:
    limits = TreeLimits(depth=2, entries=20, bytes=1 << 20)
    box.put_in(job_file)
    (box.writable / "output" / "a" / "b").mkdir(parents=True)
    assert box.excess(limits) is None
    (box.writable / "output" / "a" / "b" / "c").mkdir()
    assert "deep" in str(box.excess(limits))
    box.put_in(job_file)
    with (box.writable / "beside").open("wb") as beside:
        beside.truncate(2 << 20)
    assert "by the sizes of its files" in str(box.excess(limits))
    box.clear()
    assert box.excess(limits) is None


def test_folders_deeper_than_a_path_may_be_are_cleared(box: ContainerFolder, job_file: Path) -> None:
    box.put_in(job_file)
    folder = os.open(box.writable / "output", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 10, dir_fd=folder)
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    assert "deep" in str(box.excess(TreeLimits()))
    box.clear()
    assert list(box.writable.iterdir()) == []


def test_no_other_user_sees_what_a_job_makes(box: ContainerFolder) -> None:
    assert box.folder.stat().st_mode & 0o777 == 0o700
