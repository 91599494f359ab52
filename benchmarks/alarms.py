"""alarms: how often the verdict about a latency is wrong, with the code that judges runs.

Simulated: pairs of 30 samples each, and a confirmation of 50 where a pair looks slower. Pairs of one program (A/A) with
different noise, and such whose board is by chance up to some percent slower or faster on the second day; an alarm is a
`regressed` that is left after the confirmation. Then pairs whose second program is 5 % slower, at a coefficient of
variation of 2 %: how many are found.

With --real also 200 pairs of one program on this host, started anew for each set of samples, judged and confirmed in
the same way; that takes minutes. With --write too, the figures go into the file whose figures every report.html shows.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from benchmarks._made import make
from benchmarks._measuring import SPREAD, Benchmark
from crossfarm.backends.project_files import load_targets
from crossfarm.boards.protocol import Purpose, Transport, open_board, this_host
from crossfarm.config.pipelines import Measure
from crossfarm.errors import nearest
from crossfarm.pipeline.confirm import ROUNDS, confirm, times
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.reports.regression.alarms import FILE
from crossfarm.reports.regression.rules import rule_of
from crossfarm.reports.regression.verdicts import Confirmation, Value, confirmed, judge
from crossfarm.util.paths import HOME

MOST_ALARMS, FEWEST_FOUND = 0.001, 0.99
SAMPLES, AGAIN = 30, 50
PAIRS, REAL_PAIRS = 5_000, 200
MODEL = "mnist_cnn"

BENCHMARK = Benchmark(
    name="alarms",
    what="verdicts about latencies: how many pairs of one program are called a regression, and how many that are 5 % "
    "slower at a coefficient of variation of 2 % are, 30 samples each and one confirmation",
    how=f"{PAIRS:,} simulated pairs of each kind, judged by the code that judges runs",
    goal=f"at most {MOST_ALARMS:.1%} alarms of each kind, at least {FEWEST_FOUND:.0%} found",
    minutes=0.3,
)

Source = Callable[[int], tuple[float, ...]]
"""Returns so many samples."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Of a number of pairs, how many looked like a regression, and how many were confirmed as one."""

    pairs: int
    looked: int
    regressed: int

    @property
    def share(self) -> float:
        """Return the share of those that were confirmed."""
        return self.regressed / self.pairs


def judged(pairs: Sequence[tuple[Source, Source]], confirmation: Callable[[int], Confirmation]) -> Judged:
    """Judge pairs of sources of samples, and confirm where one looks slower."""
    rule = rule_of("latency.p50")
    assert rule is not None
    looked = regressed = 0
    for number, (old, new) in enumerate(pairs):
        before, now = (
            Value(value=statistics.median(samples), samples=samples) for samples in (old(SAMPLES), new(SAMPLES))
        )
        verdict = judge(rule, [before], now)
        if verdict.word == "regressed":
            looked += 1
            regressed += confirmed(verdict, rule, confirmation(number)).word == "regressed"
    return Judged(pairs=len(pairs), looked=looked, regressed=regressed)


def simulated(pairs: int, *, cv: float, slower: float = 0.0, day: float = 0.0, heavy: bool = False) -> Judged:
    """Judge simulated pairs.

    Args:
        pairs: how many.
        cv: coefficient of variation of the samples.
        slower: by how much the second program is slower.
        day: standard deviation by which the board differs from the first measurement to the second.
        heavy: one sample of ten takes up to three times as long, as when something else runs.
    """
    generator = np.random.default_rng(20261130)

    def source(median: float) -> Source:
        def samples(count: int) -> tuple[float, ...]:
            values = median * (1 + cv * generator.standard_normal(count))
            if heavy:
                values *= np.where(generator.random(count) < 0.1, 1 + 2 * generator.random(count), 1.0)
            return tuple(np.maximum(values, 1.0).tolist())

        return samples

    days = 1 + day * generator.standard_normal(pairs)
    ones = [(source(1e6), source(1e6 * (1 + slower) * moved)) for moved in days]

    def again(_: int) -> Confirmation:
        return Confirmation(old=source(1e6)(AGAIN), new=source(1e6 * (1 + slower))(AGAIN))

    return judged(ones, again)


def real(bundle: Path, transport: Transport, pairs: int) -> Judged:
    """Judge pairs of one program on this host; the confirmation starts it anew too, in turns with itself."""
    settings = Measure()

    def source(count: int) -> tuple[float, ...]:
        return tuple(times(transport, transport.deploy(bundle), settings, repeat=count))

    copy = bundle.with_name(f"{bundle.name}-again")
    if not copy.exists():
        copy.symlink_to(bundle)
    return judged(
        [(source, source)] * pairs, lambda _: confirm(bundle, copy, transport, settings=settings, rounds=ROUNDS)
    )


def real_on_this_host(pairs: int) -> Judged:
    """Judge pairs of a model's program for this host's own target."""
    machine = platform.machine()
    targets = load_targets(HOME / "toolchains")
    target = targets.get(machine)
    if target is None:
        raise SystemExit(f"{machine}: there is no target for this host{nearest(machine, targets)}")
    cell = f"{target.name}-{MODEL}-float32"
    selection = Selection(only=(cell,), targets=(target.name,), stages=("bundle",))
    made = make(Options(selection=selection, engine="local"))
    purpose = Purpose(target=target.name, machine=target.machine, emulator=target.emulator, code=target.instructions)
    with open_board(this_host(target.name), purpose, token=0) as transport:
        return real(made.folder(f"bundle:{cell}"), transport, pairs)


def figures(kinds: Collection[Judged], found: Judged, here: Judged, *, load: float) -> dict[str, int | float | str]:
    """Return what stands in the footer of every page: crossfarm.reports.regression.alarms."""
    worst = max(kinds, key=lambda kind: kind.share)
    return {
        "kinds": len(kinds),
        "simulated_pairs": worst.pairs,
        "worst_alarms": worst.regressed,
        "slower_pairs": found.pairs,
        "found": found.regressed,
        "real_model": MODEL,
        "real_pairs": here.pairs,
        "real_looked": here.looked,
        "real_alarms": here.regressed,
        "real_processors": len(os.sched_getaffinity(0)),
        "real_load": round(load, 1),
    }


def main() -> None:
    """Judge all of them."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--real", action="store_true", help=f"also {REAL_PAIRS} pairs of one program on this host")
    parser.add_argument("--write", action="store_true", help="with --real: write the figures that stand in report.html")
    given = parser.parse_args()
    small = given.small
    pairs = 200 if small else PAIRS
    kinds = {
        "A/A, cv 2 %": simulated(pairs, cv=0.02),
        "A/A, cv 10 %": simulated(pairs, cv=0.1),
        "A/A, cv 2 %, one sample of ten is up to three times as long": simulated(pairs, cv=0.02, heavy=True),
        "A/A, cv 2 %, the board differs by 5 % from day to day": simulated(pairs, cv=0.02, day=0.05),
    }
    found = simulated(pairs, cv=0.02, slower=0.05)
    for name, kind in kinds.items():
        print(f"{name}: {kind.looked} of {kind.pairs:,} look slower, {kind.regressed} confirmed ({kind.share:.3%})")
    print(
        f"+5 %, cv 2 %: {found.looked} of {found.pairs:,} look slower, {found.regressed} confirmed ({found.share:.2%})"
    )
    if given.real:
        before = os.getloadavg()[0]
        here = real_on_this_host(3 if small else REAL_PAIRS)
        print(f"real A/A pairs of {MODEL} here: {here.looked} of {here.pairs} look slower, {here.regressed} confirmed")
        load = (before + os.getloadavg()[0]) / 2
        print(f"meanwhile {load:.1f} processes wanted one of {len(os.sched_getaffinity(0))} processors")
        if given.write:
            FILE.write_text(
                json.dumps(figures(kinds.values(), found, here, load=load), indent=1) + "\n", encoding="utf-8"
            )
    worst = max(kind.share for kind in kinds.values())
    print(f"{SPREAD}alarms {worst:.3%} at most in {len(kinds)} kinds of pairs; found {found.share:.2%}")
    BENCHMARK.finish(
        100 * found.share, "% found", good=worst <= MOST_ALARMS and found.share >= FEWEST_FOUND, small=small
    )


if __name__ == "__main__":
    main()
