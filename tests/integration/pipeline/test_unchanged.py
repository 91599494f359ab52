"""A run again where nothing changed: the real command line, what it leaves, and whatever makes it a run of its own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from crossfarm.pipeline.unchanged.watched import OWN_FILES, OWN_FOLDERS
from crossfarm.util.paths import HOME
from tests.integration.pipeline.conftest import Farm

pytestmark = pytest.mark.integration

HEAVY = "crossfarm.pipeline.run"
"""What a run of its own imports."""


class Again:
    """Runs one command of a farm again and again."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.words: tuple[str, ...] = ()
        self.code = 0

    def __call__(self) -> bool:
        """Run it; returns whether the outcome that was kept was written again."""
        command = self.farm.command(*self.words)
        command[1:3] = ["-X", "importtime", "-m", "crossfarm.cli.program"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=HOME, env=dict(self.farm.variables()), timeout=300, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        self.code, self.output = done.returncode, done.stdout
        return HEAVY not in done.stderr

    def until_kept(self) -> None:
        """Run it until nothing is done any more. A file that was just written is not trusted, so it is made older."""
        assert any(self() for _ in range(12)), self.output


@pytest.fixture
def again(farm: Farm, small_model: onnx.ModelProto) -> Again:
    farm.add("adder", small_model)
    found = Again(farm)
    assert not found()
    return found


def _texts(farm: Farm) -> dict[str, str]:
    """Return the reports without what is of one run alone."""
    run = farm.records("run")[0]["run"]
    found = {}
    for name in ("results.jsonl", "junit.xml", "summary.md", "report.html"):
        text = (farm.out / name).read_text().replace(run, "RUN")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00)?", "TIME", text)
        text = re.sub(r'("seconds":)[0-9.]+(,"interrupted")', r"\1S\2", text)
        text = re.sub(r'(<testsuites [^>]*time=")[0-9.]+', r"\1S", text)
        found[name] = re.sub(r"(TIME, )[0-9.]+ m?s", r"\1S", text)
    return found


def test_what_is_written_again_is_what_a_run_would_have_written(again: Again) -> None:
    farm = again.farm
    again()
    whole, said, first = _texts(farm), again.output, farm.records("run")[0]["run"]
    again.until_kept()
    assert again()
    assert (again.code, again.output) == (0, said)
    assert _texts(farm) == whole
    second = farm.records("run")[0]["run"]
    assert second != first
    assert json.loads((farm.out / "results.previous.jsonl").read_text().splitlines()[0])["run"] not in (first, second)
    with sqlite3.connect(farm.folder / "history.db") as history:
        rows = history.execute(
            "SELECT r.run, count(*) FROM crossfarm_history_runs r JOIN crossfarm_history_cells c ON c.run = r.number "
            "GROUP BY r.run"
        ).fetchall()
    assert {first, second} <= {run for run, _ in rows}
    assert {count for _, count in rows} == {1}


def _other_model(farm: Farm) -> None:
    model = onnx.load(farm.folder / "adder.onnx")
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4] + b"\0\0\0\0"
    onnx.save(model, farm.folder / "adder.onnx")


def _drop_object(farm: Farm) -> None:
    records = next(path for path in (farm.store / "artifacts").glob("*/*") if '"job":"check:' in path.read_text())
    name = json.loads(records.read_text())["files"][0][1]
    (farm.store / "objects" / name[:2] / name).unlink()


def _damage_object(farm: Farm) -> None:
    manifest = next(path for path in (farm.store / "artifacts").glob("*/*") if '"job":"check:' in path.read_text())
    name = json.loads(manifest.read_text())["files"][0][1]
    path = farm.store / "objects" / name[:2] / name
    was, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _drop_artifact(farm: Farm) -> None:
    next(path for path in (farm.store / "artifacts").glob("*/*") if '"job":"prepare:' in path.read_text()).unlink()


CHANGES: dict[str, Callable[[Farm], object]] = {
    "models.yaml": lambda farm: (farm.folder / "models.yaml").write_text(
        (farm.folder / "models.yaml").read_text() + "    variants: [float32]\n"
    ),
    "the pipeline": lambda farm: farm.set_targets("x86_64", "x86_64_v4"),
    "the model": _other_model,
    "an object is gone": _drop_object,
    "an object is damaged, its size and time are not": _damage_object,
    "an artifact is gone": _drop_artifact,
    "a variable": lambda farm: farm.environment.update(CROSSFARM_ANY="1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_a_run_of_its_own(again: Again, change: str) -> None:
    again.until_kept()
    CHANGES[change](again.farm)
    assert not again(), again.output
    assert again.farm.records("end")[0]["exit_code"] == again.code


def test_a_damaged_record_is_made_again_and_not_shown(again: Again) -> None:
    again.until_kept()
    _damage_object(again.farm)
    assert not again()
    assert again.farm.states()["check:x86_64-adder-float32"] == "run"
    assert again.code == 0


def test_reports_that_were_taken_away_are_written_again(again: Again) -> None:
    again.until_kept()
    for name in ("report.html", "junit.xml", "results.jsonl"):
        (again.farm.out / name).unlink()
    assert again()
    assert (again.farm.out / "report.html").exists()
    assert again.farm.records("end")


def test_a_history_that_lost_the_run_gets_it_all_the_same(again: Again) -> None:
    again.until_kept()
    (again.farm.folder / "history.db").unlink()
    again()
    with sqlite3.connect(again.farm.folder / "history.db") as history:
        assert history.execute("SELECT count(*) FROM crossfarm_history_runs").fetchone() == (1,)


def test_a_failed_check_is_told_again_with_its_exit_code(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    again = Again(farm)
    path = farm.folder / "models.yaml"
    path.write_text(path.read_text() + "    checks: {program: 1 KiB}\n")
    assert not again()
    assert again.code == 1
    again.until_kept()
    assert again()
    assert again.code == 1
    assert "failed" in again.output


def test_all_that_a_run_opens_in_the_clone_is_watched(again: Again, tmp_path: Path) -> None:
    code = f"""
import os, sys
opened = set()
sys.addaudithook(lambda event, args: opened.add(args[0]) if event == "open" and isinstance(args[0], str) else None)
sys.argv = {["crossfarm", *again.farm.command()[3:]]!r}
import runpy
try:
    runpy.run_module("crossfarm.cli.program", run_name="__main__", alter_sys=True)
except SystemExit:
    pass
# What is opened below a folder that is open already has a name of its own only there.
print(*sorted(os.path.normpath(path) for path in opened if os.path.isabs(path)), sep="\\n", file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=HOME,
        env=dict(again.farm.variables()),
        check=True,
        timeout=300,
    )
    ours = [Path(line) for line in done.stderr.splitlines() if line.startswith(f"{HOME}/")]
    assert HOME / "toolchains" / "x86_64.yaml" in ours
    known = [*(HOME / name for name in (*OWN_FOLDERS, *OWN_FILES)), HOME / ".venv", HOME / ".crossfarm" / "store"]
    known.append(HOME / "__pycache__")  # of tasks.py
    unknown = [path for path in ours if not any(path.is_relative_to(folder) for folder in known)]
    assert unknown == []
