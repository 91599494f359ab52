"""The schedule with boards: jobs wait for a lease without taking a slot, and try another board when one fails them."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.health import Health, quarantined
from crossfarm.boards.leases.leases import Leases
from crossfarm.boards.pool import Pool
from crossfarm.config.boards import Board
from crossfarm.pipeline.job_runner import Finished, JobFolders
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.pipeline.scheduler import run_schedule
from crossfarm.pipeline.staleness import find_stale
from crossfarm.stages import STAGES
from crossfarm.stages.job import Outcome
from crossfarm.store.keys import KeyDocument, digest_json
from crossfarm.store.live_runs import live_run
from crossfarm.store.store import Store

GOOD = Outcome(good=True, seconds=0.0)
BOARD_DIED = Outcome(good=False, seconds=0.0, cause="it does not answer", fault="infrastructure", is_board_fault=True)
Behaviour = Callable[[str, str | None], Outcome]


class _Engine:
    """Runs a function of job and board, and notes what ran where and at the same time."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.ran: list[tuple[str, str | None]] = []
        self.together: list[Counter[str | None]] = []
        self._now: list[str | None] = []
        self._lock = threading.Lock()

    def __enter__(self) -> _Engine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, folder: Path, log: Path) -> Outcome:
        job = json.loads((folder / "job.json").read_text())
        board = job["grant"]["board"]["name"] if job["grant"] else None
        with self._lock:
            self.ran.append((job["id"], board))
            self._now.append(board)
            self.together.append(Counter(self._now))
        try:
            (Path(job["output"]) / "made").write_text(str(board))
            return self.behaviour(job["id"], board)
        finally:
            with self._lock:
                self._now.remove(board)

    def cancel(self) -> None:
        pass


class _Notes:
    def __init__(self) -> None:
        self.results: dict[str, Finished] = {}

    def started(self, job: PlannedJob) -> None:
        assert job.id not in self.results

    def finished(self, job: PlannedJob, result: Finished) -> bool:
        assert job.id not in self.results, f"{job.id} ended twice"
        self.results[job.id] = result
        return False


def plan_of(boards: dict[str, tuple[str, ...]]) -> Plan:
    jobs = {}
    for name, wanted in boards.items():
        document = KeyDocument(
            stage="measure", version=1, parameters={}, sources=digest_json(name), inputs={}, image="host", tools={}
        )
        jobs[name] = PlannedJob(
            declaration=STAGES["measure"].DECLARATION,
            id=name,
            stage="measure",
            cell=None,
            model=None,
            key=document.key(),
            document=document,
            groups={},
            inputs={},
            boards=wanted,
        )
    return Plan(jobs=jobs, wanted=frozenset(jobs), cells=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """A folder with a store and a database of leases, and three boards."""

    folder: Path
    inventory: Inventory

    def run(self, plan: Plan, engine: _Engine, *, slots: int = 1) -> dict[str, Finished]:
        store, notes = Store(self.folder / "store"), _Notes()
        (self.folder / "logs").mkdir(exist_ok=True)
        with live_run(store, "run", []) as work, engine, Pool(self.inventory, targets={}, user="ada") as pool:
            place = JobFolders(store=store, work=work, logs=self.folder / "logs", root=self.folder)
            run_schedule(
                plan, find_stale(plan, store), engine=engine, slots=slots, place=place, listener=notes, pool=pool
            )
        return notes.results


BOARDS = ("a", "b", "c")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    boards = {name: Board(name=name, transport="local", targets=("x86_64",)) for name in BOARDS}
    database = f"sqlite:///{tmp_path}/leases.db"
    return Site(folder=tmp_path, inventory=Inventory(declared=boards, chosen=boards, database=database, wait=60))


@pytest.fixture
def leases(site: Site) -> Iterator[Leases]:
    with Leases(site.inventory.database) as opened:
        yield opened


def test_all_boards_are_kept_busy_however_few_slots_there_are_and_each_by_one_job(site: Site) -> None:
    three = threading.Barrier(3)

    def behaviour(job: str, board: str | None) -> Outcome:
        three.wait(timeout=30)
        return GOOD

    engine = _Engine(behaviour)
    results = site.run(plan_of({f"j{number}": BOARDS for number in range(12)}), engine, slots=1)
    assert {result.state for result in results.values()} == {"run"}
    assert all(count == 1 for running in engine.together for count in running.values())
    assert {result.board for result in results.values()} == set(BOARDS)


def test_a_slow_board_does_not_hold_the_rest(site: Site) -> None:
    others_done = threading.Event()
    count = Counter[str | None]()

    def behaviour(job: str, board: str | None) -> Outcome:
        if board == "a":
            assert others_done.wait(30)
            return GOOD
        count[board] += 1
        if sum(count.values()) == 7:
            others_done.set()
        return GOOD

    results = site.run(plan_of({f"j{number}": BOARDS for number in range(8)}), _Engine(behaviour))
    assert Counter(result.board for result in results.values())["a"] == 1


def test_a_job_whose_board_fails_runs_on_another_and_both_are_named(site: Site, leases: Leases) -> None:
    def behaviour(job: str, board: str | None) -> Outcome:
        return BOARD_DIED if board == "a" else GOOD

    engine = _Engine(behaviour)
    results = site.run(plan_of({"j": ("a", "b")}), engine)
    assert engine.ran == [("j", "a"), ("j", "b")]
    assert (results["j"].state, results["j"].board) == ("run", "b")
    assert results["j"].flaky == ("a: it does not answer",)
    health = leases.status().boards["a"].health
    assert (health.state, health.reason) == ("bad", "it does not answer")


def test_a_job_that_every_board_fails_ends_as_an_error_that_names_them_all(site: Site) -> None:
    engine = _Engine(lambda job, board: BOARD_DIED)
    results = site.run(plan_of({"j": BOARDS}), engine)
    assert (results["j"].state, results["j"].fault) == ("failed", "infrastructure")
    assert results["j"].cause == "a: it does not answer; b: it does not answer; c: it does not answer"
    assert len(engine.ran) == 3


def test_a_job_that_fails_by_its_own_fault_is_not_tried_elsewhere(site: Site, leases: Leases) -> None:
    wrong = Outcome(good=False, seconds=0.0, cause="needs NEON", fault="product")
    engine = _Engine(lambda job, board: wrong)
    results = site.run(plan_of({"j": BOARDS}), engine)
    assert (results["j"].cause, results["j"].flaky, len(engine.ran)) == ("needs NEON", (), 1)
    assert {board.health.state for board in leases.status().boards.values()} == {"good"}


def test_no_healthy_board_is_an_error_with_its_reason_and_stops_nobody_else(site: Site, leases: Leases) -> None:
    leases.change_health("a", lambda health, now: quarantined(reason="the fan is broken", wall=1.0))
    results = site.run(plan_of({"j": ("a",), "k": ("b",)}), _Engine(lambda job, board: GOOD))
    assert results["k"].state == "run"
    assert (results["j"].state, results["j"].fault) == ("failed", "infrastructure")
    assert results["j"].cause.startswith("no board is healthy: a is quarantined (the fan is broken)")


def test_a_board_that_is_never_free_is_an_error_after_the_time_that_one_waits(site: Site, leases: Leases) -> None:
    lease = leases.acquire(["a"], user="bob", purpose="a long test", timeout=5)
    short = dataclasses.replace(site, inventory=dataclasses.replace(site.inventory, wait=0.5))
    results = short.run(plan_of({"j": ("a",)}), _Engine(lambda job, board: GOOD))
    assert results["j"].cause == "no board was free within 0.5 s; ./inv boards shows who has it"
    leases.confirm(lease)
    assert leases.status().waiting == ()


def test_the_result_of_a_late_holder_is_not_stored_and_the_job_runs_again(site: Site, leases: Leases) -> None:
    plan, taken = plan_of({"j": ("a",)}), []

    def behaviour(job: str, board: str | None) -> Outcome:
        if not taken:  # as if this farm had slept until its lease went to another one
            holder = leases.status().boards["a"].holder
            assert holder is not None
            leases.withdraw(holder.ticket)
            taken.append(leases.acquire(["a"], user="bob", purpose="another farm", timeout=5))
            threading.Timer(0.3, leases.release, taken).start()
        return GOOD

    engine = _Engine(behaviour)
    results = site.run(plan, engine)
    assert engine.ran == [("j", "a")] * 2
    assert results["j"].state == "run"
    assert len(results["j"].flaky) == 1
    assert "ended before the work on it did" in results["j"].flaky[0]
    assert leases.status().boards["a"].health == Health()


def test_boards_are_given_back_when_a_run_is_interrupted(site: Site, leases: Leases) -> None:
    class Interrupting(_Notes):
        def started(self, job: PlannedJob) -> None:
            raise KeyboardInterrupt

    plan, store, notes = (
        plan_of({f"j{number}": BOARDS for number in range(5)}),
        Store(site.folder / "s"),
        Interrupting(),
    )
    engine = _Engine(lambda job, board: GOOD)
    with (
        live_run(store, "run", []) as work,
        engine,
        Pool(site.inventory, targets={}, user="ada") as pool,
        pytest.raises(KeyboardInterrupt),
    ):
        place = JobFolders(store=store, work=work, logs=site.folder, root=site.folder)
        run_schedule(plan, find_stale(plan, store), engine=engine, slots=1, place=place, listener=notes, pool=pool)
    assert {result.state for result in notes.results.values()} == {"cancelled"}
    status = leases.status()
    assert status.waiting == ()
    assert all(board.holder is None for board in status.boards.values())
