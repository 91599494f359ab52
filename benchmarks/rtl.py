"""rtl: the digits CNN as a core in Verilog, 8 bits, from models.yaml to the report.

Cold, everything is made in an empty store: NNgen quantises the model and writes the core, Verilator translates it, a
C++ compiler makes it a program, Icarus Verilog checks it, the functional model answers all held-out digits and the
simulator one. Warm, the same command finds all of it. The last line is the time of the slowest cold run.
"""

from __future__ import annotations

import shutil

from benchmarks._measuring import INV, SCRATCH, SPREAD, Benchmark, between, seconds_of
from crossfarm.bundles.rtl import ENVIRONMENT

COLD, WARM = 90.0, 5.0
ROUNDS = 1
CELL = "rtl_int8-digits_cnn-float32"
WORK = SCRATCH / "rtl"

BENCHMARK = Benchmark(
    name="rtl",
    what="the digits CNN as an 8-bit core in Verilog, from models.yaml to the report: with an empty store, and again "
    "with everything in it",
    how="a run of each, jobs on this host",
    goal=f"under {COLD:g} s cold and {WARM:g} s warm",
    minutes=0.5,
)


def main() -> None:
    """Measure both."""
    options = BENCHMARK.parser(__doc__).parse_args()
    if (why := ENVIRONMENT.missing()) is not None:
        raise SystemExit(f"rtl: {why}")
    command = [*INV, "pipeline", "--engine", "local", "--targets", "rtl_int8", "--only", CELL]
    command += ["--store", str(WORK / "store"), "--out", str(WORK / "out")]
    cold, warm = [], []
    for _ in range(1 if options.small else ROUNDS):
        shutil.rmtree(WORK, ignore_errors=True)
        cold.append(seconds_of(command))
        warm.append(seconds_of(command))
        print(f"cold {cold[-1]:.1f} s, warm {warm[-1]:.2f} s", flush=True)
    print(f"{SPREAD}cold {between(cold, 's')}; warm {between(warm, 's')}")
    BENCHMARK.finish(max(cold), "s", good=max(cold) < COLD and max(warm) < WARM, small=options.small)


if __name__ == "__main__":
    main()
