"""The benchmarks' own frame: the page says what the code says, and a run of all tells what ran from what did not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import _all, _table
from benchmarks._made import Made
from benchmarks._measuring import SPREAD, Benchmark
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.stages import STAGES
from crossfarm.store.keys import KeyDocument
from crossfarm.store.store import Store
from crossfarm.util.paths import HOME

LINE = "start 0.187 s (goal under 0.6 s)"


def test_documented_goals_equal_the_codes() -> None:
    documented = _table.between_markers(_table.PAGE.read_text(), _table.GOALS)
    assert documented == _table.goals_table(_table.benchmarks()), "run python -m benchmarks._table"


def test_all_of_them_take_at_most_45_minutes() -> None:
    assert sum(one.minutes * (1 + len(one.forms)) for one in _table.benchmarks()) <= 45


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = "a\n<!-- goals: begin -->\nold\n<!-- goals: end -->\nb\n"
    assert _table.replaced(page, "goals", "new\n") == page.replace("old", "new")


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(SystemExit, match="figures: begin"):
        _table.replaced("# Benchmarks\n", _table.FIGURES, "x")


@pytest.mark.parametrize(
    ("output", "code", "verdict", "value"),
    [
        (f"{SPREAD}0.1 to 0.2\n{LINE}\n", 0, "met", "0.187 s"),
        (f"{SPREAD}0.1 to 0.2\n{LINE}\n", 1, "missed", "0.187 s"),
        (f"{SPREAD}0.1 to 0.2\nstart 0.187 s (small form, not judged)\n", 0, "not judged", "0.187 s"),
        ("job\nstart -7.660 ms more than local (goal at most 150 ms)\n", 0, "met", "-7.660 ms more than local"),
        (
            "Traceback\nTypeError: find_stale() takes 2\n",
            1,
            "did not run: exit code 1, TypeError: find_stale()",
            "",
        ),
        ("PostgreSQL is not installed\n", 1, "did not run: exit code 1, PostgreSQL is not installed", ""),
        (f"{LINE}\nthen it was ended\n", 0, "did not run: exit code 0, then it was ended", ""),
        (f"{LINE}\n", -9, f"did not run: exit code -9, {LINE}", ""),
        ("start 0.187 s (small form, not judged)\n", 1, "did not run: exit code 1", ""),
        (LINE.replace("start", "stop"), 0, "did not run: exit code 0", ""),
        ("", 0, "did not run: exit code 0, it printed nothing", ""),
    ],
)
def test_what_a_benchmark_printed_says_what_became_of_it(output: str, code: int, verdict: str, value: str) -> None:
    figure = _all.read_output("start --more", output, code=code, seconds=1.0)
    assert figure.verdict.startswith(verdict)
    assert figure.value == value
    assert figure.good == (verdict in ("met", "not judged"))
    assert figure.spread == ("0.1 to 0.2" if SPREAD in output else "")


def test_a_benchmark_that_hangs_is_ended() -> None:
    figure = _all.run("start", [sys.executable, "-c", "import time; time.sleep(600)"], longest=0.2)
    assert figure.verdict.startswith("did not run: exit code -9")


def test_every_form_is_run_and_every_command_is_small_when_asked() -> None:
    one = Benchmark(name="x", what="w", how="h", goal="g", minutes=1, forms=("--threads 2",))
    full = _all.commands([one], small=False)
    assert [(name, command[3:]) for name, command in full] == [("x", []), ("x --threads 2", ["--threads", "2"])]
    assert [(name, command[3:]) for name, command in _all.commands([one], small=True)] == [("x", ["--small"])]


def test_the_figures_name_machine_commit_spread_and_what_did_not_run() -> None:
    good = _all.read_output("start", f"{SPREAD}a|b\n{LINE}\n", code=0, seconds=3.0)
    broken = _all.read_output("lease", "no database", code=1, seconds=0.4)
    assert _all.figures([good, broken], where="2 processors", revision="abc", when="2000-01-01").splitlines() == [
        "2000-01-01, commit abc, on 2 processors:",
        "",
        "| name | figure | spread | goal | took |",
        "|---|---|---|---|---|",
        "| `start` | 0.187 s | a\\|b | met | 3 s |",
        "| `lease` |  |  | did not run: exit code 1, no database | 0 s |",
    ]


@pytest.mark.parametrize(
    ("good", "small", "code", "said"),
    [(True, False, 0, "goal g"), (False, False, 1, "goal g"), (False, True, 0, "small form, not judged")],
)
def test_the_last_line_and_the_exit_code_say_whether_the_goal_is_met(
    good: bool, small: bool, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Benchmark(name="x", what="w", how="h", goal="g", minutes=1)
    with pytest.raises(SystemExit) as ended:
        one.finish(1.5, "s", good=good, small=small)
    assert ended.value.code == code
    assert capsys.readouterr().out == f"x 1.500 s ({said})\n"


def _job(sources: str) -> PlannedJob:
    document = KeyDocument(stage="bundle", version=1, parameters={}, sources=sources, inputs={}, image="host", tools={})
    return PlannedJob(
        declaration=STAGES["bundle"].DECLARATION,
        id="bundle:x",
        stage="bundle",
        cell=None,
        model=None,
        key=document.key(),
        document=document,
        groups={},
        inputs={},
    )


def _put(store: Store, job: PlannedJob, folder: Path) -> None:
    folder.mkdir()
    (folder / "program").write_text(job.key)
    store.put(key=job.key, job=job.id, folder=folder, document=job.document, groups={}, seconds=0.0)


def test_what_a_benchmark_judges_is_of_the_plan_it_ran_not_the_newest_of_that_name(tmp_path: Path) -> None:
    store, ran, later = Store(tmp_path / "store"), _job("a" * 64), _job("b" * 64)
    _put(store, ran, tmp_path / "first")
    _put(store, later, tmp_path / "second")
    made = Made(plan=Plan(jobs={ran.id: ran}, wanted=frozenset(), cells=()), store=store)
    assert made.artifact("bundle:x").key == ran.key


def test_an_artifact_of_another_key_does_not_stand_in_for_one_that_was_not_made(tmp_path: Path) -> None:
    store, ran, later = Store(tmp_path / "store"), _job("a" * 64), _job("b" * 64)
    _put(store, later, tmp_path / "second")
    made = Made(plan=Plan(jobs={ran.id: ran}, wanted=frozenset(), cells=()), store=store)
    with pytest.raises(SystemExit, match="did not"):
        made.artifact("bundle:x")


@pytest.mark.parametrize("path", sorted((HOME / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_no_benchmark_takes_the_newest_artifact_of_a_name(path: Path) -> None:
    assert not {name for name in ("last_artifact", "known_jobs") if name in path.read_text()}
