"""Who gets which board next."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.boards.leases.rules import Assignment, Waiting, assign

BOARDS = ("a", "b", "c")
USERS = ("ada", "bob", "cyd")


def waiting(number: int, *, user: str = "ada", priority: int = 0, boards: str = "a") -> Waiting:
    return Waiting(ticket=f"t{number}", number=number, user=user, priority=priority, boards=frozenset(boards))


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    return [
        waiting(
            number,
            user=draw(st.sampled_from(USERS)),
            priority=draw(st.integers(0, 2)),
            boards="".join(draw(st.sets(st.sampled_from(BOARDS), min_size=1))),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


def order(queue: list[Waiting], *, held: dict[str, int] | None = None, last: dict[str, int] | None = None) -> list[str]:
    """Serve a queue with one board, each lease ending at once; returns the tickets in the order of their grants."""
    served: list[str] = []
    left, latest = list(queue), dict(last or {})
    while left:
        (made,) = assign(free=["a"], waiting=left, held=held or {}, last=latest)
        served.append(made.ticket)
        latest[made.user] = max(latest.values(), default=0) + 1
        left = [request for request in left if request.ticket != made.ticket]
    return served


@given(queue=queues(), free=st.lists(st.sampled_from(BOARDS), unique=True))
def test_a_board_is_handed_out_once_to_one_who_wants_it_and_none_is_left_that_somebody_waits_for(
    queue: list[Waiting], free: list[str]
) -> None:
    made = assign(free=free, waiting=queue, held={}, last={})
    wants = {request.ticket: request.boards for request in queue}
    assert max(Counter(grant.board for grant in made).values(), default=0) <= 1
    assert max(Counter(grant.ticket for grant in made).values(), default=0) <= 1
    assert all(grant.board in wants[grant.ticket] and grant.board in free for grant in made)
    left = set(free) - {grant.board for grant in made}
    served = {grant.ticket for grant in made}
    assert not any(request.boards & left for request in queue if request.ticket not in served)


@given(numbers=st.permutations(range(6)))
def test_one_user_is_served_in_the_order_of_asking(numbers: list[int]) -> None:
    assert order([waiting(number) for number in numbers]) == [f"t{number}" for number in range(6)]


@given(
    priorities=st.lists(st.integers(0, 3), min_size=1, max_size=6), users=st.lists(st.sampled_from(USERS), min_size=6)
)
def test_nobody_is_served_before_one_of_a_higher_priority(priorities: list[int], users: list[str]) -> None:
    queue = [waiting(n, user=users[n], priority=priority) for n, priority in enumerate(priorities)]
    served = [queue[int(ticket[1:])].priority for ticket in order(queue)]
    assert served == sorted(served, reverse=True)


@given(many=st.integers(1, 40), few=st.integers(1, 5))
def test_a_user_with_many_requests_keeps_another_waiting_for_one_lease_at_most(many: int, few: int) -> None:
    queue = [waiting(number) for number in range(many)]
    queue += [waiting(many + number, user="bob") for number in range(few)]
    places = [place for place, ticket in enumerate(order(queue)) if int(ticket[1:]) >= many]
    assert all(place <= 2 * number + 1 for number, place in enumerate(places))


def test_who_holds_fewer_boards_goes_first() -> None:
    queue = [waiting(1, user="ada"), waiting(2, user="bob")]
    assert order(queue, held={"ada": 1})[0] == "t2"


def test_a_board_that_others_need_is_left_to_them() -> None:
    queue = [waiting(1, boards="ab"), waiting(2, user="bob", boards="a")]
    made = assign(free=["a", "b"], waiting=queue, held={}, last={})
    assert made == [
        Assignment(ticket="t1", user="ada", board="b"),
        Assignment(ticket="t2", user="bob", board="a"),
    ]


@given(
    queue=queues(),
    free=st.integers(0, 3),
    held=st.dictionaries(st.sampled_from(USERS), st.integers(1, 3)),
    last=st.dictionaries(st.sampled_from(USERS), st.integers(1, 9)),
)
def test_boards_that_come_free_together_go_as_if_they_came_one_after_another(
    queue: list[Waiting], free: int, held: dict[str, int], last: dict[str, int]
) -> None:
    left = [dataclasses.replace(request, boards=frozenset(BOARDS)) for request in queue]
    together = assign(free=BOARDS[:free], waiting=left, held=held, last=last)
    one_by_one: list[Assignment] = []
    now_held, latest = Counter(held), dict(last)
    for board in BOARDS[:free]:
        for made in assign(free=[board], waiting=left, held=now_held, last=latest):
            one_by_one.append(made)
            now_held[made.user] += 1
            latest[made.user] = 100 + len(one_by_one)
            left = [request for request in left if request.ticket != made.ticket]
    assert together == one_by_one


def test_a_grant_counts_as_one_board_and_as_the_latest_of_all() -> None:
    queue = [waiting(1, user="bob"), waiting(2), waiting(3)]
    queue = [dataclasses.replace(request, boards=frozenset(BOARDS)) for request in queue]

    def served(held: dict[str, int]) -> list[str]:
        return [made.ticket for made in assign(free=["a", "b"], waiting=queue, held=held, last={"bob": 7})]

    assert served({"bob": 2}) == ["t2", "t3"]
    assert served({"bob": 1}) == ["t2", "t1"]
    assert served({"bob": 1, "ada": 1}) == ["t2", "t1"]
    assert served({"bob": 2, "ada": 2}) == ["t2", "t1"]
    assert served({}) == ["t2", "t1"]


def test_nothing_that_was_handed_in_is_changed() -> None:
    queue, free, held, last = [waiting(1)], ["a"], {"ada": 1}, {"ada": 1}
    assert len(assign(free=free, waiting=queue, held=held, last=last)) == 1
    assert (queue, free, held, last) == ([waiting(1)], ["a"], {"ada": 1}, {"ada": 1})
