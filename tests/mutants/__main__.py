"""Change a module in many small ways and see whether its unit tests notice: `./inv mutants`."""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from crossfarm.util.paths import HOME
from tests.mutants.making import Mutant, mutants
from tests.mutants.running import BrokenTestsError, Module, prepared, run

EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
GOAL = 90.0
"""Per cent of the mutants that are not equivalent to the module."""
MODULES = {
    "keys": ("crossfarm/store/keys.py", ("tests/unit/store/test_keys.py",)),
    "plan": (
        "crossfarm/pipeline/plan.py",
        ("tests/unit/pipeline/test_plan_jobs.py", "tests/unit/pipeline/test_plan.py"),
    ),
    "plan_jobs": (
        "crossfarm/pipeline/plan_jobs.py",
        ("tests/unit/pipeline/test_plan_jobs.py", "tests/unit/pipeline/test_plan.py"),
    ),
    "store": ("crossfarm/store/store.py", ("tests/unit/store/test_store_layout.py", "tests/unit/store/test_store.py")),
    "objects": (
        "crossfarm/store/objects.py",
        ("tests/unit/store/test_store_layout.py", "tests/unit/store/test_objects.py"),
    ),
    "comparison": ("crossfarm/stages/check/comparison.py", ("tests/unit/stages/check/test_comparison.py",)),
    "lease_rules": ("crossfarm/boards/leases/rules.py", ("tests/unit/boards/leases/test_rules.py",)),
    "lease_queue": ("crossfarm/boards/leases/queue.py", ("tests/unit/boards/leases/test_queue.py",)),
    "junit": ("crossfarm/reports/junit.py", ("tests/unit/reports/test_junit.py",)),
}
"""Name -> module and the test files that are to notice its mutants."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """What became of the mutants of one module; those that are equivalent to it were not run.

    Attributes:
        name: of the module.
        of: how many mutants it has.
        equivalent: how many of them do the same as the module.
        killed: how many of those that were run a test noticed.
        survivors: those that were run and not noticed.
        seconds: processor time that one took on average.
    """

    name: str
    of: int
    equivalent: int
    killed: int
    survivors: tuple[Mutant, ...]
    seconds: float

    @property
    def tried(self) -> int:
        """How many were run."""
        return self.killed + len(self.survivors)


def main(arguments: Sequence[str]) -> int:
    """Run, print survivors and the table; 0 when the goal is reached, else 1."""
    parser = argparse.ArgumentParser(prog="./inv mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(MODULES)}; all by default")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", default="", help="only mutants whose name holds this text")
    given = parser.parse_args(arguments)
    for name in given.modules:
        if name not in MODULES:
            parser.error(f"there is no module {name!r}; modules: {', '.join(MODULES)}")
    equivalent = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    scores = []
    for name in given.modules or MODULES:
        module = Module(root=HOME, file=MODULES[name][0], tests=MODULES[name][1])
        found = [mutant for mutant in mutants(module.path) if given.like in mutant.name]
        known = {entry["mutant"]: entry["reason"] for entry in equivalent.get(name, ())}
        if not given.like:
            _tell_of_old(name, known, found)
        left = [mutant for mutant in found if mutant.name not in known]
        if not left:
            continue
        if given.sample is not None and given.sample < len(left):
            left = random.Random(given.seed).sample(left, given.sample)
        try:
            scores.append(_score(name, module, left, of=len(found), equivalent=len(known)))
        except BrokenTestsError as error:
            sys.exit(f"mutants: {error}")
    print("\n".join(_table(scores)))
    tried = sum(score.tried for score in scores)
    return 0 if tried and 100 * sum(score.killed for score in scores) >= GOAL * tried else 1


def _score(name: str, module: Module, chosen: Sequence[Mutant], *, of: int, equivalent: int) -> Score:
    survivors, used = [], 0.0
    with prepared(module) as allowed:
        print(f"{name}: {len(chosen)} mutants; its tests take {allowed.usual:.1f} s of processor time", flush=True)
        for number, mutant in enumerate(chosen, 1):
            fate, seconds = run(module, mutant.source, allowed)
            used += seconds
            if fate == "survived":
                survivors.append(mutant)
                print(f"survived  {module.file}:{mutant.line}: {mutant.name}", flush=True)
            if sys.stderr.isatty():
                print(f"\r{name} {number}/{len(chosen)} ", end="", file=sys.stderr, flush=True)
    killed = len(chosen) - len(survivors)
    return Score(
        name=name, of=of, equivalent=equivalent, killed=killed, survivors=tuple(survivors), seconds=used / len(chosen)
    )


def _tell_of_old(name: str, known: dict[str, str], found: Sequence[Mutant]) -> None:
    for mutant in sorted(set(known) - {mutant.name for mutant in found}):
        print(f"{EQUIVALENT.name}: {name} has no such mutant any more: {mutant}")


def _table(scores: Sequence[Score]) -> Iterator[str]:
    yield "| module | mutants | of | killed | survived | equivalent | score | seconds for each |"
    yield "|---|---|---|---|---|---|---|---|"
    total = Score(
        name="all",
        of=sum(score.of for score in scores),
        equivalent=sum(score.equivalent for score in scores),
        killed=sum(score.killed for score in scores),
        survivors=tuple(mutant for score in scores for mutant in score.survivors),
        seconds=sum(score.seconds * score.tried for score in scores) / max(1, sum(score.tried for score in scores)),
    )
    for score in (*scores, total):
        share = f"{100 * score.killed / score.tried:.1f} %" if score.tried else "-"
        yield (
            f"| {score.name} | {score.tried} | {score.of} | {score.killed} | {len(score.survivors)} | "
            f"{score.equivalent} | {share} | {score.seconds:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
