"""The schedule: order, slots, failures and interrupts, on an engine that runs nothing but small functions."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfarm.config.cell import Cell
from crossfarm.pipeline.interrupts import Interrupts
from crossfarm.pipeline.job_runner import Finished, JobFolders
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.pipeline.scheduler import run_schedule
from crossfarm.pipeline.staleness import find_stale
from crossfarm.stages import STAGES
from crossfarm.stages.job import Outcome
from crossfarm.store.garbage import verify
from crossfarm.store.keys import KeyDocument, digest_json
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Store
from tests.waiting import PATIENCE_SECONDS


class _Engine:
    """Runs a function per job in threads and notes what runs at the same time."""

    def __init__(self, behaviour: Mapping[str, Callable[[], Outcome]] | None = None) -> None:
        self.behaviour = behaviour or {}
        self.lock = threading.Lock()
        self.running: set[str] = set()
        self.together: list[frozenset[str]] = []
        self.order: list[str] = []
        self.cancelled = False

    def __enter__(self) -> _Engine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, folder: Path, log: Path) -> Outcome:
        job = json.loads((folder / "job.json").read_text())
        with self.lock:
            self.running.add(job["id"])
            self.order.append(job["id"])
            self.together.append(frozenset(self.running))
        try:
            for made in job["inputs"].values():
                assert (Path(made) / "made").is_file()
            (Path(job["output"]) / "made").write_text(job["id"])
            return self.behaviour.get(job["id"], lambda: Outcome(good=True, seconds=0.0))()
        finally:
            with self.lock:
                self.running.discard(job["id"])

    def cancel(self) -> None:
        self.cancelled = True


class _Notes:
    """Notes what it is told."""

    def __init__(self, stop_at: str = "") -> None:
        self.results: dict[str, Finished] = {}
        self.stop_at = stop_at

    def started(self, job: PlannedJob) -> None:
        assert job.id not in self.results

    def finished(self, job: PlannedJob, result: Finished) -> bool:
        assert job.id not in self.results, f"{job.id} ended twice"
        self.results[job.id] = result
        return job.id == self.stop_at

    def states(self) -> dict[str, str]:
        return {name: result.state for name, result in self.results.items()}


def _plan(inputs: Mapping[str, list[str]], alone: frozenset[str] = frozenset(), cells: Mapping[str, Cell] = {}) -> Plan:
    jobs: dict[str, PlannedJob] = {}
    for name, needed in inputs.items():
        document = KeyDocument(
            stage="compile",
            version=1,
            parameters={},
            sources=digest_json(name),
            inputs={source: jobs[source].key for source in needed},
            image="host",
            tools={},
        )
        jobs[name] = PlannedJob(
            declaration=STAGES["compile"].DECLARATION,
            id=name,
            stage="compile",
            cell=cells.get(name),
            model=None,
            key=document.key(),
            document=document,
            groups={},
            inputs={source: source for source in needed},
            exclusive=name in alone,
        )
    return Plan(jobs=jobs, wanted=frozenset(jobs), cells=())


def _run(
    plan: Plan,
    folder: Path,
    engine: _Engine,
    *,
    slots: int = 2,
    stop_at: str = "",
    lost: Callable[[PlannedJob], str] = lambda _: "",
) -> _Notes:
    store = Store(folder / "store")
    notes = _Notes(stop_at)
    (folder / "logs").mkdir(exist_ok=True)
    with live_run(store, "run", []) as work, engine:
        place = JobFolders(store=store, work=work, logs=folder / "logs", root=folder)
        run_schedule(plan, find_stale(plan, store, lost=lost), engine=engine, slots=slots, place=place, listener=notes)
    return notes


DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def test_every_job_runs_once_behind_its_inputs(tmp_path: Path) -> None:
    engine = _Engine()
    notes = _run(_plan(DIAMOND), tmp_path, engine)
    assert set(notes.states().values()) == {"run"}
    assert engine.order[0] == "a"
    assert engine.order[-1] == "d"


def test_a_second_run_starts_nothing(tmp_path: Path) -> None:
    plan = _plan(DIAMOND)
    _run(plan, tmp_path, _Engine())
    engine = _Engine()
    notes = _run(plan, tmp_path, engine)
    assert set(notes.states().values()) == {"hit"}
    assert engine.order == []


def test_one_failure_stops_only_what_builds_on_it(tmp_path: Path) -> None:
    engine = _Engine({"b": lambda: Outcome(good=False, seconds=0.1, cause="no such operator", fault="product")})
    notes = _run(_plan({**DIAMOND, "e": ["c"]}), tmp_path, engine)
    assert notes.states() == {"a": "run", "b": "failed", "c": "run", "d": "cancelled", "e": "run"}
    assert notes.results["b"].cause == "no such operator"
    assert notes.results["d"].cause == "b failed"


UNFIT = Outcome(good=False, seconds=0.1, cause="too large: about 9 cycles", fault="product", is_unfit=True)


def test_what_is_not_for_its_target_skips_the_rest_of_its_cell_and_fails_nothing(tmp_path: Path) -> None:
    one, other = (Cell(model="m", target=target, variant="float32") for target in ("rtl_int8", "x86_64"))
    graph = {"p": [], "compile": ["p"], "bundle": ["compile"], "check": ["bundle", "p"], "other": ["p", "compile"]}
    cells = {"compile": one, "bundle": one, "check": one, "other": other}
    notes = _run(_plan(graph, cells=cells), tmp_path, _Engine({"compile": lambda: UNFIT}))
    assert notes.states() == {
        **{"p": "run", "compile": "skipped", "bundle": "skipped", "check": "skipped"},
        "other": "cancelled",
    }
    assert {notes.results[name].cause for name in ("compile", "bundle", "check")} == {"too large: about 9 cycles"}
    assert {result.fault for result in notes.results.values()} == {None}
    assert notes.results["other"].cause == "compile was skipped"


def test_a_job_without_a_target_cannot_be_unfit_for_one(tmp_path: Path) -> None:
    notes = _run(_plan({"prepare": []}), tmp_path, _Engine({"prepare": lambda: UNFIT}))
    assert (notes.results["prepare"].state, notes.results["prepare"].fault) == ("failed", "product")


def test_what_failed_runs_again_the_next_time_and_what_was_done_does_not(tmp_path: Path) -> None:
    plan = _plan(DIAMOND)
    _run(plan, tmp_path, _Engine({"b": lambda: Outcome(good=False, seconds=0.0, cause="x", fault="product")}))
    engine = _Engine()
    _run(plan, tmp_path, engine)
    assert engine.order == ["b", "d"]


def test_fail_fast_starts_nothing_more(tmp_path: Path) -> None:
    chain = {"a": [], "b": ["a"], "c": ["b"]}
    notes = _run(_plan(chain), tmp_path, _Engine(), slots=1, stop_at="a")
    assert notes.states() == {"a": "run", "b": "cancelled", "c": "cancelled"}


def test_a_job_that_is_measured_runs_alone(tmp_path: Path) -> None:
    names = {f"j{number}": [] for number in range(8)}
    meeting = threading.Barrier(2)
    engine = _Engine({name: _meets(meeting) for name in set(names) - {"j2", "j5"}})
    _run(_plan(names, alone=frozenset({"j2", "j5"})), tmp_path, engine, slots=4)
    assert max(map(len, engine.together)) > 1
    assert {frozenset({"j2"}), frozenset({"j5"})} <= set(engine.together)
    assert all(len(group) == 1 for group in engine.together if group & {"j2", "j5"})


def test_as_many_jobs_run_at_once_as_there_are_slots_and_no_more(tmp_path: Path) -> None:
    names = [f"j{number}" for number in range(12)]
    meeting = threading.Barrier(3)
    engine = _Engine(dict.fromkeys(names, _meets(meeting)))
    _run(_plan({name: [] for name in names}), tmp_path, engine, slots=3)
    assert max(map(len, engine.together)) == 3


def _meets(meeting: threading.Barrier) -> Callable[[], Outcome]:
    """Return what a job does that ends when others run beside it; the barrier breaks where they never come."""

    def meet() -> Outcome:
        meeting.wait(PATIENCE_SECONDS)
        return Outcome(good=True, seconds=0.0)

    return meet


def test_an_interrupt_ends_the_engine_and_tells_every_job(tmp_path: Path) -> None:
    def interrupt() -> Outcome:
        raise KeyboardInterrupt

    class Interrupting(_Notes):
        def started(self, job: PlannedJob) -> None:
            if job.id == "b":
                raise KeyboardInterrupt

    plan = _plan({"a": [], "b": ["a"], "c": ["b"]})
    store, notes, engine = Store(tmp_path / "store"), Interrupting(), _Engine()
    with live_run(store, "run", []) as work, engine, pytest.raises(KeyboardInterrupt):
        place = JobFolders(store=store, work=work, logs=tmp_path, root=tmp_path)
        run_schedule(plan, find_stale(plan, store), engine=engine, slots=1, place=place, listener=notes)
    assert engine.cancelled
    assert notes.states() == {"a": "run", "b": "cancelled", "c": "cancelled"}


def test_a_crash_inside_the_farm_is_a_row_and_not_a_stop(tmp_path: Path) -> None:
    def crash() -> Outcome:
        raise RuntimeError("an engine has a bug")

    notes = _run(_plan({"a": [], "b": []}), tmp_path, _Engine({"a": crash}))
    assert notes.states() == {"a": "failed", "b": "run"}
    assert notes.results["a"].fault == "infrastructure"
    assert "an engine has a bug" in notes.results["a"].cause


def _rot(store: Store, plan: Plan, job: str) -> None:
    """Change a stored artifact so that only its digest shows it."""
    artifact = store.read(plan.jobs[job].key)
    assert artifact is not None
    path = store.file_path(artifact, "made")
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _forget(store: Store, plan: Plan, *jobs: str) -> None:
    for job in jobs:
        store.artifact_path(plan.jobs[job].key).unlink()


def test_a_damaged_input_is_made_again_in_the_same_run_with_what_it_needs(tmp_path: Path) -> None:
    plan = _plan({"a": [], "b": ["a"], "c": ["b"]})
    store = Store(tmp_path / "store")
    _run(plan, tmp_path, _Engine())
    _rot(store, plan, "b")
    _forget(store, plan, "a", "c")
    engine = _Engine()
    notes = _run(plan, tmp_path, engine)
    assert engine.order == ["a", "b", "c"]
    assert notes.states() == {"b": "hit", "c": "run"}
    assert set(notes.results["c"].remade) == {"a", "b"}
    assert verify(store) == []


def test_a_damaged_input_that_two_jobs_find_is_made_again_once(tmp_path: Path) -> None:
    plan = _plan({"a": [], **{f"j{number}": ["a"] for number in range(4)}})
    store = Store(tmp_path / "store")
    _run(plan, tmp_path, _Engine())
    _rot(store, plan, "a")
    _forget(store, plan, *(f"j{number}" for number in range(4)))
    engine = _Engine()
    notes = _run(plan, tmp_path, engine, slots=4)
    assert engine.order.count("a") == 1
    assert {notes.states()[f"j{number}"] for number in range(4)} == {"run"}


def test_a_damaged_input_that_cannot_be_made_again_is_named(tmp_path: Path) -> None:
    plan = _plan({"a": [], "b": ["a"]})
    store = Store(tmp_path / "store")
    _run(plan, tmp_path, _Engine())
    _rot(store, plan, "a")
    _forget(store, plan, "b")
    bad = {"a": lambda: Outcome(good=False, seconds=0.0, cause="no network", fault="infrastructure")}
    notes = _run(plan, tmp_path, _Engine(bad))
    assert notes.states()["b"] == "failed"
    assert notes.results["b"].fault == "infrastructure"
    assert "making a again failed: no network" in notes.results["b"].cause


def test_what_is_planned_to_run_for_damage_is_not_taken_for_whole_after_all(tmp_path: Path) -> None:
    plan = _plan({"a": []})
    plan = dataclasses.replace(
        plan, jobs={"a": dataclasses.replace(plan.jobs["a"], declaration=STAGES["check"].DECLARATION)}
    )
    store = Store(tmp_path / "store")
    _run(plan, tmp_path, _Engine())
    _rot(store, plan, "a")
    assert find_stale(plan, store)["a"].choice == "run"
    assert _run(plan, tmp_path, _Engine()).states() == {"a": "run"}


def test_a_job_that_is_forced_runs_although_the_store_has_its_artifact(tmp_path: Path) -> None:
    plan = _plan({"a": []})
    _run(plan, tmp_path, _Engine())
    engine = _Engine()
    notes = _run(plan, tmp_path, engine, lost=lambda job: "its cache is gone")
    assert engine.order == ["a"]
    assert notes.states() == {"a": "run"}


def test_a_hit_counts_as_a_use(tmp_path: Path) -> None:
    plan = _plan({"a": []})
    store = Store(tmp_path / "store")
    _run(plan, tmp_path, _Engine())
    manifest = store.artifact_path(plan.jobs["a"].key)
    os.utime(manifest, (1000, 1000))
    _run(plan, tmp_path, _Engine())
    assert time.time() - manifest.stat().st_mtime < 100


def test_an_interrupt_ends_the_waiting_for_another_run(tmp_path: Path) -> None:
    plan = _plan({"a": [], "b": ["a"]})
    store, notes, engine = Store(tmp_path / "store"), _Notes(), _Engine()
    with (
        Interrupts() as interrupts,
        Store(tmp_path / "store").key_lock(plan.jobs["a"].key),
        live_run(store, "run", []) as work,
        engine,
        pytest.raises(KeyboardInterrupt),
    ):
        interrupts.hold()
        ctrl_c = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        ctrl_c.start()
        place = JobFolders(store=store, work=work, logs=tmp_path, root=tmp_path)
        run_schedule(
            plan, find_stale(plan, store), engine=engine, slots=1, place=place, listener=notes, interrupts=interrupts
        )
    ctrl_c.join()
    assert notes.states() == {"a": "cancelled", "b": "cancelled"}
    assert engine.order == []


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    size = draw(st.integers(1, 9))
    return {f"j{number}": [f"j{before}" for before in range(number) if draw(st.booleans())] for number in range(size)}


@given(graph=graphs(), slots=st.integers(1, 4), data=st.data())
@settings(max_examples=25)
def test_whatever_fails_every_job_ends_exactly_once_and_nothing_runs_on_a_failed_input(
    tmp_path_factory: pytest.TempPathFactory, graph: dict[str, list[str]], slots: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.sampled_from(sorted(graph))))
    alone = frozenset(data.draw(st.sets(st.sampled_from(sorted(graph)))))
    failing = {name: lambda: Outcome(good=False, seconds=0.0, cause="bad", fault="product") for name in bad}
    notes = _run(_plan(graph, alone), tmp_path_factory.mktemp("run"), _Engine(failing), slots=slots)
    states = notes.states()
    assert set(states) == set(graph)
    for name, needed in graph.items():
        if any(states[source] != "run" for source in needed):
            assert states[name] == "cancelled"
        else:
            assert states[name] == ("failed" if name in bad else "run")
