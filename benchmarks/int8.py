"""int8: int8 cells against the float32 cells of the same models on this machine, through the bundles' own programs.

Both take turns, round by round, with the same input and the same processor; the time of a side is the median over all
runs. A model that is quantised already has no float32 cell and is left out. The last line is the smallest ratio of
float32 to int8 on a target with VNNI, of the models that take at least 0.2 ms in float32. Shorter ones, and those on
other targets, must not be slower in int8.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

from benchmarks._measuring import INV, ROOT, SCRATCH, finish, seconds_of
from benchmarks.latency import restored
from crossfarm.store import Store

GOALS = {"x86_64_v4": 2.0, "x86_64": 1.0}
"""Target -> how many times as fast int8 has to be."""
SHORTEST_MS = 0.2
"""Time of a float32 cell below which int8 only must not be slower: too little is left to be saved."""
WARMUP = 5


def milliseconds(bundle: Path, *, repeat: int) -> list[float]:
    """Return the time of each run of a bundle's program on case 0."""
    result, outputs = SCRATCH / "result.json", SCRATCH / "outputs"
    outputs.mkdir(parents=True, exist_ok=True)
    options = {"--threads": 1, "--affinity": 0, "--warmup": WARMUP, "--repeat": repeat, "--cases": 1}
    arguments = [str(word) for pair in options.items() for word in pair]
    files = ["--outputs", str(outputs), "--result", str(result), "--no-verify"]
    subprocess.run([str(bundle / "program"), str(bundle), *arguments, *files], check=True)
    return [nanoseconds / 1e6 for nanoseconds in json.loads(result.read_text())["latency_ns"]]


def compare(real: Path, quantised: Path, *, rounds: int, repeat: int) -> tuple[float, float]:
    """Return the median milliseconds of two bundles, from rounds in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for bundle, found in zip((real, quantised), times, strict=True):
            found.extend(milliseconds(bundle, repeat=repeat))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Compare all models that have both cells, on every target of GOALS that this machine runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=20, help="runs in a round")
    parser.add_argument("--store", type=Path, help="of an earlier run; without it the bundles are made first")
    options = parser.parse_args()
    os.sched_setaffinity(0, {0})
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text():
        raise SystemExit("int8: this machine has no AVX-512 VNNI, so the figure cannot be taken here")
    store = Store(options.store or ROOT / ".crossfarm" / "store")
    if options.store is None:
        stages = "fetch,prepare,reference,quantize,compile,bundle"
        seconds_of([*INV, "pipeline", "--targets", ",".join(GOALS), "--stages", stages])
    known, smallest, good = set(store.known_jobs()), {}, True
    for target, goal in GOALS.items():
        ratios = []
        for job in sorted(name for name in known if name.startswith(f"bundle:{target}-") and name.endswith("-int8")):
            float_job = job.removesuffix("-int8") + "-float32"
            name = job.removeprefix(f"bundle:{target}-").removesuffix("-int8")
            if float_job not in known:
                print(f"{target:10} {name:24} is quantised already: there is no float32 cell")
                continue
            real, quantised = compare(
                restored(store, float_job), restored(store, job), rounds=options.rounds, repeat=options.repeat
            )
            ratio, is_short = real / quantised, real < SHORTEST_MS
            good = good and ratio >= (1.0 if is_short else goal)
            if not is_short:
                ratios.append(ratio)
            note = f"  under {SHORTEST_MS} ms, goal 1.00" if is_short else ""
            print(
                f"{target:10} {name:24} float32 {real:9.3f} ms int8 {quantised:9.3f} ms {ratio:6.2f} x{note}",
                flush=True,
            )
        smallest[target] = min(ratios)
        mean = statistics.geometric_mean(ratios)
        print(f"{target}: smallest {smallest[target]:.2f} x, geometric mean {mean:.2f} x (goal {goal:.2f} x each)")
    finish("int8", smallest["x86_64_v4"], "x float32", "at least 2.00, and 1.00 without VNNI", good=good)


if __name__ == "__main__":
    main()
