"""A job that writes more than it may is ended and told so, on each engine, and harms nothing after it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.engines.container.limits import GIB, ResourceLimits
from crossfarm.engines.local import LocalEngine
from crossfarm.stages.job import HOST, Job, Outcome
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Store
from crossfarm.util.trees import TreeLimits, remove_tree

pytestmark = pytest.mark.integration

SMALL = TreeLimits(depth=32, entries=500, bytes=64 << 20)

DEEP = """
import os
folder = os.open(job.output, os.O_RDONLY)
for _ in range(1500):
    os.mkdir("d" * 10, dir_fd=folder)
    folder, above = os.open("d" * 10, os.O_RDONLY, dir_fd=folder), folder
    os.close(above)
"""
MANY = "for number in range(2000):\n    (job.output / f'{number}').touch()\n"
HOLLOW = "for number in range(12):\n    with (job.output / f'{number}').open('wb') as file: file.truncate(1 << 30)\n"
REAL = "for number in range(10):\n    (job.output / f'{number}').write_bytes(bytes([1]) * (16 << 20))\n"
STAYS = "import time\nprint('written', flush=True)\ntime.sleep(600)\n"

Run = Callable[[str], tuple[Outcome, Path]]


@pytest.fixture
def in_container(begin: Any) -> Run:
    limits = ResourceLimits(memory=GIB // 2, cpus=1.0, processes=64, output=SMALL)
    return begin(limits=limits).run  # type: ignore[no-any-return]


@pytest.fixture
def on_this_host(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)  # else the worker imports from here and not from the changed source
    count = 0

    def run(code: str) -> tuple[Outcome, Path]:
        nonlocal count
        count += 1
        folder = tmp_path / f"job-{count}"
        (folder / "output").mkdir(parents=True)
        Job(
            id=f"check:{count}",
            stage="check",
            key="k",
            parameters={"code": code},
            inputs={},
            output=folder / "output",
            root=folder,
            image=HOST,
        ).write(folder / "job.json")
        return engine.run(folder, folder / "log"), folder

    with LocalEngine(environment={"PYTHONPATH": str(home)}, limits=SMALL) as engine:
        yield run


@pytest.fixture(params=["in_container", "on_this_host"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    yield request.getfixturevalue(request.param)
    for left in tmp_path.glob("job-*"):  # pytest could not
        assert remove_tree(left)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (DEEP, "folders more than 32 deep"),
        (MANY, "more than 500 files and folders"),
        (HOLLOW, "GiB by the sizes of its files, and may have 0.0625"),
        (REAL, "GiB on the disk, and may have 0.0625"),
    ],
    ids=["deep", "many", "hollow", "real"],
)
def test_a_job_that_writes_too_much_is_ended_while_it_runs_and_the_next_one_works(
    run: Run, code: str, told: str
) -> None:
    outcome, _ = run(code + STAYS)
    assert not outcome.good
    assert outcome.fault == "infrastructure"
    assert told in outcome.cause
    assert "the job was ended" in outcome.cause
    outcome, folder = run("(job.output / 'good').write_text('good')")
    assert outcome.good, outcome.cause
    assert (folder / "output" / "good").read_text() == "good"


def test_a_job_that_leaves_deep_folders_and_ends_at_once_harms_nothing_after_it(run: Run) -> None:
    _, folder = run(DEEP)
    assert remove_tree(folder)
    outcome, folder = run("(job.output / 'good').write_text('good')")
    assert outcome.good, outcome.cause
    assert (folder / "output" / "good").read_text() == "good"


def test_temporary_files_of_a_job_on_this_host_lie_in_its_own_folder_and_are_limited(on_this_host: Run) -> None:
    outcome, folder = on_this_host(
        "import json, os, tempfile\n"
        "said = [tempfile.gettempdir(), os.environ['TMPDIR'], tempfile.mkdtemp(prefix='left-')]\n"
        "(job.output / 'said').write_text(json.dumps(said))"
    )
    assert outcome.good, outcome.cause
    said = json.loads((folder / "output" / "said").read_text())
    assert said[:2] == [str(folder / "tmp")] * 2
    assert Path(said[2]).parent == folder / "tmp"
    outcome, _ = on_this_host("import tempfile\nwith tempfile.TemporaryFile() as file:\n    pass\n" + _in_scratch(MANY))
    assert "more than 500 files and folders" in outcome.cause


def _in_scratch(code: str) -> str:
    return code.replace("job.output", "__import__('pathlib').Path(tempfile.gettempdir())") + STAYS


def test_a_program_that_changes_its_user_is_out_of_others_reach_while_its_job_runs(begin: Any, tmp_path: Path) -> None:
    with live_run(Store(tmp_path / "store"), "one", []) as work:
        trial = begin(work=work)
        outcome, folder = trial.run("import os\n(job.output / 'p').touch()\nos.chmod(job.output / 'p', 0o6755)")
        assert outcome.good, outcome.cause
        assert (folder / "output" / "p").stat().st_mode & stat.S_ISUID
        for place in (work, work.parent, *trial.boxes()):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert place.stat().st_uid == os.geteuid()
