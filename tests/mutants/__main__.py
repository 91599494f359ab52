"""Change a module in many small ways and see whether its unit tests notice: `./inv mutants`."""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from tests.mutants.making import Mutant, mutants
from tests.mutants.running import Module, limits, preload, run

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
GOAL = 90.0
"""Per cent of the mutants that are not equivalent to the module."""
MODULES = {
    "keys": ("crossfarm/keys.py", ("tests/unit/test_keys.py",)),
    "plan": ("crossfarm/plan.py", ("tests/unit/test_plan.py",)),
    "store": ("crossfarm/store.py", ("tests/unit/test_store.py",)),
    "comparison": ("crossfarm/stages/comparison.py", ("tests/unit/stages/test_comparison.py",)),
    "lease_rules": ("crossfarm/boards/lease_rules.py", ("tests/unit/boards/test_lease_rules.py",)),
    "junit": ("crossfarm/reports/junit.py", ("tests/unit/reports/test_junit.py",)),
}
"""Name -> module and the test files that are to notice its mutants."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """What became of the mutants of one module; those that are equivalent to it were not run."""

    name: str
    equivalent: int
    killed: int
    survivors: tuple[Mutant, ...]

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
    preload()
    equivalent = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    scores = []
    for name in given.modules or MODULES:
        module = Module(root=ROOT, file=MODULES[name][0], tests=MODULES[name][1])
        found = [mutant for mutant in mutants(module.path) if given.like in mutant.name]
        known = {entry["mutant"]: entry["reason"] for entry in equivalent.get(name, ())}
        if not given.like:
            _tell_of_old(name, known, found)
        left = [mutant for mutant in found if mutant.name not in known]
        if given.sample is not None and given.sample < len(left):
            left = random.Random(given.seed).sample(left, given.sample)
        scores.append(_score(name, module, left, len(found) - len(left) if given.sample is None else 0))
    print("\n".join(_table(scores)))
    tried = sum(score.tried for score in scores)
    return 0 if tried and 100 * sum(score.killed for score in scores) >= GOAL * tried else 1


def _score(name: str, module: Module, chosen: Sequence[Mutant], equivalent: int) -> Score:
    allowed = limits(module)
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        fate, _ = run(module, mutant.source, allowed)
        if fate == "survived":
            survivors.append(mutant)
            print(f"survived  {module.file}:{mutant.line}: {mutant.name}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{name} {number}/{len(chosen)} ", end="", file=sys.stderr, flush=True)
    return Score(name=name, equivalent=equivalent, killed=len(chosen) - len(survivors), survivors=tuple(survivors))


def _tell_of_old(name: str, known: dict[str, str], found: Sequence[Mutant]) -> None:
    for mutant in sorted(set(known) - {mutant.name for mutant in found}):
        print(f"{EQUIVALENT.name}: {name} has no such mutant any more: {mutant}")


def _table(scores: Sequence[Score]) -> Iterator[str]:
    yield "| module | mutants | killed | survived | equivalent | score |"
    yield "|---|---|---|---|---|---|"
    total = Score(
        name="all",
        equivalent=sum(score.equivalent for score in scores),
        killed=sum(score.killed for score in scores),
        survivors=tuple(mutant for score in scores for mutant in score.survivors),
    )
    for score in (*scores, total):
        share = f"{100 * score.killed / score.tried:.1f} %" if score.tried else "-"
        yield (
            f"| {score.name} | {score.tried} | {score.killed} | {len(score.survivors)} | {score.equivalent} | {share} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
