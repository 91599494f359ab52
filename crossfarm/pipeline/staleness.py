"""Decisions: what of a plan runs and why, what the store already has. What is said here is what the run does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from crossfarm.pipeline.plan import without_collector
from crossfarm.pipeline.plan_types import Plan, PlannedJob
from crossfarm.store.keys import describe_change
from crossfarm.store.store import Artifact, Store
from crossfarm.util.quick_init import quick_init

Choice = Literal["run", "hit", "unneeded"]


@quick_init
@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to one job.

    Attributes:
        choice: `run`; `hit`: the store has it; `unneeded`: not there, and nothing that runs asks for it.
        reason: why it runs, in one line; empty otherwise.
        artifact: the stored artifact of a hit.
        seconds: how long it took the last time, 0 when it never ran.
        is_forced: it runs even though the store has its artifact.
    """

    choice: Choice
    reason: str = ""
    artifact: Artifact | None = None
    seconds: float = 0.0
    is_forced: bool = False


_UNNEEDED = Decision(choice="unneeded")
_NEVER_RUN = Decision(choice="run", reason="it was never run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """What the store lists, asked once for all jobs."""

    keys: set[str]
    jobs: set[str]


def find_stale(
    plan: Plan,
    store: Store,
    *,
    again: frozenset[str] = frozenset(),
    lost: Callable[[PlannedJob], str] = lambda _: "",
) -> Mapping[str, Decision]:
    """Return a decision for every job of the plan, in the plan's order.

    Args:
        plan: the plan.
        store: where artifacts are looked up.
        again: names of stages whose wanted jobs run even though the store has them.
        lost: says of a job that the store has and another needs what it made outside of the store and is gone; empty
            when nothing is.
    """
    with without_collector():
        return _decide(plan, store, again, lost)


def _decide(
    plan: Plan, store: Store, again: frozenset[str], lost: Callable[[PlannedJob], str]
) -> Mapping[str, Decision]:
    forced = _forced(plan, again)
    needed = _ends(plan) | forced
    known = _Known(keys=store.known_keys(), jobs=store.known_jobs())
    found: dict[str, Decision] = {}
    for job in reversed(plan.jobs.values()):
        if job.id not in needed:
            found[job.id] = _UNNEEDED
            continue
        decision = _decide_one(job, store, known, again=job.id in forced)
        if decision.choice == "hit" and (reason := lost(job)):
            decision = Decision(choice="run", reason=reason, seconds=decision.seconds, is_forced=True)
        found[job.id] = decision
        if decision.choice == "run":
            needed.update(job.inputs.values())
    return {name: _settle(job, found[name], store, known) for name, job in plan.jobs.items()}


def _ends(plan: Plan) -> set[str]:
    """Return the wanted jobs that no other wanted one builds on, even by way of jobs that are not wanted."""
    used: set[str] = set()
    for job in reversed(plan.jobs.values()):
        if job.id in plan.wanted or job.id in used:
            used.update(job.inputs.values())
    return set(plan.wanted) - used


def _forced(plan: Plan, again: frozenset[str]) -> set[str]:
    """Return the jobs of the stages that are asked for again, and all that build on them: their keys stay the same."""
    forced: set[str] = set()
    if again:
        for job in plan.jobs.values():
            if (job.stage in again and job.id in plan.wanted) or not forced.isdisjoint(job.inputs.values()):
                forced.add(job.id)
    return forced


def _decide_one(job: PlannedJob, store: Store, known: _Known, *, again: bool) -> Decision:
    artifact = store.read(job.key) if job.key in known.keys else None
    if artifact is None:
        if job.id not in known.jobs:
            return _NEVER_RUN
        last = store.last_artifact(job.id)
        if last is None:
            return Decision(choice="run", reason="its artifact is gone")
        reason = (
            describe_change(last.document, job.document, old_groups=store.groups(last), new_groups=job.groups)
            if last.key != job.key
            else "its artifact is gone"
        )
        return Decision(choice="run", reason=reason, seconds=last.seconds)
    if again:
        return Decision(choice="run", reason="asked for again", seconds=artifact.seconds, is_forced=True)
    # What a job reads is hashed before it reads it. The records of a check are read by the run itself.
    damage = store.damage(artifact, thorough=job.declaration.leaves_records)
    if damage:
        return Decision(choice="run", reason=f"its artifact is damaged: {damage}", seconds=artifact.seconds)
    return Decision(choice="hit", artifact=artifact, seconds=artifact.seconds)


def _settle(job: PlannedJob, decision: Decision, store: Store, known: _Known) -> Decision:
    """Show jobs that nothing runs for, but that are there all the same, as hits."""
    if decision.choice != "unneeded" or job.key not in known.keys:
        return decision
    artifact = store.read(job.key)
    return Decision(choice="hit", artifact=artifact, seconds=artifact.seconds) if artifact else decision
