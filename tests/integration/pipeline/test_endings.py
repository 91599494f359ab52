"""Ends of a run that nobody planned: killed workers, impatient users, readers that go away, folders that are taken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest

from crossfarm.engines.worker import processes
from crossfarm.pipeline import run
from crossfarm.pipeline.options import Options
from tests.integration.pipeline.waiting import Farm, compiles, jobs_below
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def test_a_killed_worker_takes_its_job_along_and_is_one_row(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    process = farm.start("--jobs", "1")
    wait_until(lambda: compiles(farm) and jobs_below(process.pid))
    jobs = jobs_below(process.pid)
    for worker in jobs:
        os.kill(worker, signal.SIGKILL)
    alive = {job for found in jobs.values() for job in found}
    wait_until(lambda: not alive & {process.id for process in processes() if process.state != "Z"}, seconds=5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    assert "Traceback" not in output
    assert farm.states()["compile:x86_64-long-float32"] == "failed"
    assert farm.states()["reference:long"] == "run"
    assert "worker process died" in output


def test_a_second_ctrl_c_tears_nothing(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    process = farm.start()
    wait_until(lambda: compiles(farm))
    for _ in range(8):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert ET.parse(farm.out / "junit.xml") is not None  # noqa: S314
    assert farm.records("end")[0]["interrupted"] is True
    assert not list((farm.store / "work").iterdir())


def test_a_run_that_breaks_for_no_known_reason_leaves_its_reports(
    farm: Farm, small_model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    farm.add("adder", small_model)
    monkeypatch.setattr(run, "run_schedule", breaks)
    options = Options(
        models=farm.folder / "models.yaml",
        pipeline=str(farm.folder / "trial.yaml"),
        store=farm.store,
        out=farm.out,
        engine="local",
    )
    with pytest.raises(ZeroDivisionError):
        run.run_pipeline(options)
    root = ET.parse(farm.out / "junit.xml").getroot()  # noqa: S314
    assert int(root.get("errors", "0")) == 1
    assert "left no result" in next(root.iter("error")).get("message", "")
    assert "Incomplete" in (farm.out / "summary.md").read_text()
    assert (farm.out / "report.html").is_file()


@pytest.mark.parametrize("task", ["pipeline", "plan"])
def test_a_reader_that_goes_away_stops_nothing(farm: Farm, small_model: onnx.ModelProto, task: str) -> None:
    farm.add("adder", small_model)
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["--stages", "prepare"]
    done = subprocess.run(
        farm.command(*arguments, task=task),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=farm.variables(),
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if task == "pipeline":
        assert farm.states()["prepare:adder"] == "run"
        assert (farm.out / "junit.xml").is_file()


def test_two_runs_into_one_folder_of_reports_come_one_after_the_other(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    first = farm.start("--stages", "reference")
    second = farm.start("--stages", "reference")
    outputs = [run.communicate(timeout=120)[0] for run in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert sum("waiting for its end" in output for output in outputs) == 1
    assert set(farm.states().values()) == {"hit"}
    previous = (farm.out / "results.previous.jsonl").read_text().splitlines()
    assert json.loads(previous[-1])["record"] == "end"


def test_a_run_that_is_killed_leaves_no_reports_of_the_run_before(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    assert farm.run("--stages", "prepare").code == 0
    assert (farm.out / "junit.xml").is_file()
    process = farm.start()
    wait_until(lambda: compiles(farm))
    process.kill()
    process.communicate(timeout=30)
    assert "as if it was killed" in (farm.out / "junit.xml").read_text()
    assert not (farm.out / "summary.md").exists()
    assert not (farm.out / "report.html").exists()


def test_paths_with_blanks_accents_and_shell_words_work_from_another_folder(
    farm: Farm, small_model: onnx.ModelProto, tmp_path: Path
) -> None:
    farm.folder = tmp_path / "größe $(touch x); 'a"
    farm.folder.mkdir()
    farm.set_targets("x86_64")
    farm.add("adder", small_model)
    farm.store, farm.out = tmp_path / "s t", tmp_path / "ö t"
    done = subprocess.run(
        [word.replace(f"{tmp_path}/", "") for word in farm.command()],
        capture_output=True,
        text=True,
        env=farm.variables(),
        cwd=tmp_path,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert farm.states()["check:x86_64-adder-float32"] == "run"
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize("number", ["two", "1.5", "nan"])
def test_a_number_that_is_none_is_one_message(farm: Farm, small_model: onnx.ModelProto, number: str) -> None:
    farm.add("adder", small_model)
    ended = farm.run("--jobs", number)
    assert ended.code == 2, ended.output
    assert f"--jobs {number}" in ended.output
