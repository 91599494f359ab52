"""Places of labgrid as boards, with a script that answers as labgrid's client 26.0.1 does."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from crossfarm.backends.project_files import load_targets
from crossfarm.boards import labgrid, pool
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.labgrid import acquire_place, identity, release_place
from crossfarm.boards.leases.leases import Leases
from crossfarm.boards.pool import Granted, Pool, Refused
from crossfarm.boards.probe import probe_board
from crossfarm.cli.board_commands import BoardsRequest, show_boards
from crossfarm.config.boards import Board, Labgrid
from crossfarm.errors import BoardError, BusyError
from crossfarm.util.paths import HOME
from tests.waiting import wait_until

TARGETS = load_targets(HOME / "toolchains")
CLIENT = """#!/bin/sh
# $1 $2: -x COORDINATOR, $3 $4: -p PLACE; a file for each place says who has it
cd "$(dirname "$0")" || exit 9
me=$LG_HOSTNAME/$LG_USERNAME
echo "$5" >> calls
if [ -e hangs ]; then exec sleep 20; fi
if [ -e slow ]; then sleep 0.3; fi
if [ -e down ]; then echo "Server error: Error: Could not connect to coordinator" >&2; exit 1; fi
place=$(ls | sed -n "s/^\\(.*$4.*\\)\\.place$/\\1/p" | head -n 1)
if [ -z "$place" ]; then echo "labgrid-client: Error: place pattern $4 matches nothing" >&2; exit 1; fi
has=$(cat "$place.place")
case $5 in
acquire)
    if [ "$has" != None ]; then echo "labgrid-client: Error: Place $place is already acquired by $has." >&2; exit 1; fi
    echo "$me" > "$place.place"; echo "acquired place $place";;
show)
    if [ -e leaves ]; then echo None > "$place.place"; has=None; fi
    printf "Place '%s':\\n  matches:\\n  acquired: %s\\n  acquired resources:\\n" "$place" "$has";;
release-from)
    if [ "$has" = None ]; then echo "labgrid-client: Error: place $place is not acquired" >&2; exit 1; fi
    if [ "$has" = "$6" ]; then echo None > "$place.place"; fi
    echo "$6 has released place $place";;
esac
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab:
    """The stand-in's folder, and the boards that are its places `one` and `two`."""

    folder: Path
    inventory: Inventory

    def has(self, place: str) -> str:
        return (self.folder / f"{place}.place").read_text().strip()

    def give(self, place: str, holder: str) -> None:
        (self.folder / "new").write_text(f"{holder}\n")
        (self.folder / "new").rename(self.folder / f"{place}.place")

    def place(self, name: str) -> Labgrid:
        return Labgrid(coordinator="lab:20408", place=name, client=str(self.folder / "labgrid-client"))

    @property
    def own(self) -> labgrid.Identity:
        return identity(self.inventory.database)

    def pool(self, **changes: float) -> Pool:
        return Pool(dataclasses.replace(self.inventory, **changes), targets=TARGETS, user="ada")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(pool, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.1)
    client = tmp_path / "labgrid-client"
    client.write_text(CLIENT)
    client.chmod(0o755)
    boards = {}
    for name in ("one", "two"):
        (tmp_path / f"{name}.place").write_text("None\n")
        place = Labgrid(coordinator="lab:20408", place=name, client=str(client))
        boards[name] = Board(name=name, transport="local", targets=("x86_64",), labgrid=place)
    database = f"sqlite:///{tmp_path}/leases.db"
    return Lab(folder=tmp_path, inventory=Inventory(declared=boards, chosen=boards, database=database, wait=20))


@pytest.fixture
def leases(lab: Lab) -> Iterator[Leases]:
    with Leases(lab.inventory.database) as opened:
        yield opened


def granted_of(answer: pool.PoolAnswer) -> Granted:
    assert isinstance(answer, Granted), answer
    return answer


def test_a_place_is_acquired_under_our_name_and_released(lab: Lab) -> None:
    acquire_place(lab.place("one"), lab.own)
    assert lab.has("one") == str(lab.own)
    release_place(lab.place("one"), lab.own)
    assert lab.has("one") == "None"
    release_place(lab.place("one"), lab.own)


def test_a_place_that_another_holds_is_busy_and_stays_theirs(lab: Lab) -> None:
    lab.give("one", "desk/grace")
    with pytest.raises(BusyError, match="the labgrid place one at lab:20408 is held by desk/grace"):
        acquire_place(lab.place("one"), lab.own)
    release_place(lab.place("one"), lab.own)
    assert lab.has("one") == "desk/grace"


def test_a_place_that_is_released_while_we_look_who_holds_it_is_acquired(lab: Lab) -> None:
    lab.give("one", "desk/grace")
    (lab.folder / "leaves").touch()
    acquire_place(lab.place("one"), lab.own)
    assert lab.has("one") == str(lab.own)
    assert (lab.folder / "calls").read_text().split() == ["acquire", "show", "acquire"]


def test_a_place_that_a_killed_farm_of_ours_left_is_taken_over(lab: Lab) -> None:
    lab.give("one", str(lab.own))
    acquire_place(lab.place("one"), lab.own)
    assert lab.has("one") == str(lab.own)


def test_a_place_whose_name_only_contains_ours_is_not_kept(lab: Lab) -> None:
    with pytest.raises(BoardError, match="has no place on;"):
        acquire_place(lab.place("on"), lab.own)
    assert lab.has("one") == "None"
    lab.give("one", "desk/grace")
    with pytest.raises(BoardError, match="has no place on;"):
        acquire_place(lab.place("on"), lab.own)


def test_what_the_client_says_of_a_failure_is_told(lab: Lab) -> None:
    (lab.folder / "down").touch()
    for act in (acquire_place, release_place):
        with pytest.raises(BoardError, match=r"lab:20408 does not give the place one: .*Could not connect"):
            act(lab.place("one"), lab.own)


def test_a_coordinator_that_never_answers_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labgrid, "TIMEOUT_SECONDS", 0.2)
    (lab.folder / "hangs").touch()
    with pytest.raises(BoardError, match=r"did not answer within 0\.2 s"):
        acquire_place(lab.place("one"), lab.own)


def test_a_missing_client_is_named(lab: Lab) -> None:
    missing = lab.place("one").model_copy(update={"client": str(lab.folder / "none")})
    with pytest.raises(BoardError, match=r"none cannot be started .*install labgrid"):
        acquire_place(missing, lab.own)


def test_farms_of_one_database_have_one_name_and_others_another() -> None:
    shared = identity("postgresql://ada@db.lab/farm")
    assert shared == identity("postgresql://grace@DB.lab:5432/farm")
    assert shared != identity("postgresql://ada@db.lab/other")
    sockets = [identity(f"postgresql://ada@/farm?host=/run/{name}") for name in ("one", "two")]
    assert sockets[0] != sockets[1]
    assert sockets[0].host == identity("postgresql://ada@localhost/farm").host == identity("sqlite:////a").host
    assert shared.host != sockets[0].host
    assert identity("sqlite:////a/leases.db") != identity("sqlite:////b/leases.db")


@pytest.mark.parametrize("wrong", [{"place": "-x"}, {"place": "a*"}, {"coordinator": "-x"}, {"client": "-x"}])
def test_what_the_client_would_take_for_an_option_or_pattern_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Labgrid.model_validate({"coordinator": "lab:20408", "place": "one", **wrong})


def test_a_granted_board_has_its_place_and_gives_it_back(lab: Lab) -> None:
    with lab.pool() as boards:
        granted = granted_of(boards.obtain("job", ["one"]))
        assert lab.has("one") == str(lab.own)
        boards.release(granted)
        assert lab.has("one") == "None"
        granted_of(boards.obtain("job", ["two"]))
    assert lab.has("two") == "None", "the end of a run gives back what is left"


def test_a_run_that_ends_while_a_place_is_being_acquired_gives_it_back(lab: Lab) -> None:
    (lab.folder / "slow").touch()
    answers: list[pool.PoolAnswer] = []
    with lab.pool() as boards:
        boards.ask("job", ["one"], answers.append)
        wait_until((lab.folder / "calls").exists)
    assert not answers
    assert (lab.folder / "calls").read_text().split() == ["acquire", "release-from"]
    assert lab.has("one") == "None"


def test_a_job_whose_place_is_busy_gets_another_board(lab: Lab) -> None:
    lab.give("one", "desk/grace")
    with lab.pool() as boards:
        assert granted_of(boards.obtain("job", ["one", "two"])).board.name == "two"
    assert lab.has("one") == "desk/grace"


def test_a_job_gets_a_busy_place_soon_after_it_was_released(lab: Lab) -> None:
    lab.give("one", "desk/grace")
    answers: list[pool.PoolAnswer] = []
    with lab.pool() as boards:
        other = granted_of(boards.obtain("other", ["two"]))
        boards.ask("job", ["one", "two"], answers.append)
        wait_until(lambda: (lab.folder / "calls").read_text().count("acquire") >= 3)
        assert not answers
        lab.give("one", "None")
        wait_until(lambda: bool(answers))
        assert granted_of(answers[0]).board.name == "one"
        boards.release(other)
    assert (lab.has("one"), lab.has("two")) == ("None", "None")


def test_a_job_that_waits_in_vain_for_a_place_is_told_who_holds_it(lab: Lab, leases: Leases) -> None:
    lab.give("one", "desk/grace")
    with lab.pool(wait=0.5) as boards:
        answer = boards.obtain("job", ["one"])
    assert isinstance(answer, Refused)
    assert "no board was free within 0.5 s" in answer.reason
    assert "the labgrid place one at lab:20408 is held by desk/grace" in answer.reason
    assert leases.status().boards["one"].health.state == "good"


def test_a_board_whose_coordinator_does_not_answer_is_bad_and_says_so(lab: Lab, leases: Leases) -> None:
    (lab.folder / "down").touch()
    with lab.pool(wait=1.0) as boards:
        answer = boards.obtain("job", ["one"])
        assert isinstance(answer, Refused)
    health = leases.status().boards["one"].health
    assert health.state == "bad"
    assert "Could not connect to coordinator" in health.reason


def test_a_holder_that_lost_its_lease_leaves_the_place_to_the_next_one(lab: Lab, leases: Leases) -> None:
    with lab.pool() as first, lab.pool() as second:
        late = granted_of(first.obtain("job", ["one"]))
        leases.withdraw(late.lease.ticket)
        granted_of(first.obtain("other job", ["two"]))  # its request makes the farm look at its tickets
        wait_until(lambda: not first._connected().is_live(late.lease))
        next_one = granted_of(second.obtain("job", ["one"]))
        first.release(late)
        assert lab.has("one") == str(lab.own)
        second.release(next_one)
    assert lab.has("one") == "None"


def test_a_probe_holds_the_place_only_while_it_looks(lab: Lab, leases: Leases) -> None:
    board = lab.inventory.declared["one"]
    probe_board(leases, board, targets=TARGETS, user="ada", timeout=5, only_due=False)
    assert (lab.folder / "calls").read_text().split() == ["acquire", "release-from"]
    assert lab.has("one") == "None"


def test_a_place_that_is_busy_is_not_probed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.give("one", "desk/grace")
    assert (
        show_boards(dataclasses.replace(lab.inventory, chosen=_only(lab, "one")), TARGETS, BoardsRequest(probe=True))
        == 0
    )
    shown = capsys.readouterr()
    assert "one was not probed: the labgrid place one at lab:20408 is held by desk/grace" in shown.err
    assert "good" in shown.out


def test_the_boards_that_are_places_are_shown_with_what_labgrid_cannot_promise(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    show_boards(lab.inventory, TARGETS, BoardsRequest())
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("places of labgrid"))
    assert "one is one at lab:20408, two is two at lab:20408; labgrid keeps no time limit" in line
    show_boards(lab.inventory, TARGETS, BoardsRequest(answer=sys.stdout.write))
    assert json.loads(capsys.readouterr().out)["boards"][0]["labgrid"] == "one at lab:20408"


def _only(lab: Lab, name: str) -> dict[str, Board]:
    return {name: lab.inventory.declared[name]}
