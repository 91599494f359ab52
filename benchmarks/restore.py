"""restore: how long it takes to lay an artifact out for a job, its content hashed; over all artifacts of the store."""

from __future__ import annotations

import shutil
import statistics
import time

from benchmarks._made import make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.store.store import Store
from crossfarm.util.paths import HOME

GOAL = 10.0

BENCHMARK = Benchmark(
    name="restore",
    what="laying an artifact out for a job, its content hashed",
    how="every artifact of the store, the median of 3 each; the median artifact (the 95th percentile and the slowest "
    "are shown)",
    goal=f"median artifact under {GOAL:.0f} ms",
    minutes=0.5,
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    store = Store(HOME / ".crossfarm" / "store")
    if small:
        made = make(Options(selection=Selection(only=("x86_64-silero_vad-*",), stages=("bundle",))))
        found = [made.artifact(job) for job in made.plan.jobs]
    else:
        make(Options(pipeline="smoke", selection=Selection(stages=("bundle",))))
        found = [artifact for path in store.root.glob("artifacts/??/*") if (artifact := store.read(path.name))]
    samples: list[tuple[float, int, str]] = []
    for artifact in found:
        times = []
        for _ in range(3):
            folder = SCRATCH / "restore"
            shutil.rmtree(folder, ignore_errors=True)
            started = time.perf_counter()
            store.restore(artifact, folder)
            times.append((time.perf_counter() - started) * 1e3)
        samples.append((statistics.median(times), sum(file.size for file in artifact.files), artifact.job))
    shutil.rmtree(SCRATCH / "restore", ignore_errors=True)
    samples.sort()
    for milliseconds, size, job in samples[-3:]:
        print(f"slowest: {job}, {size / 2**20:.1f} MiB: {milliseconds:.2f} ms")
    times_only = [sample[0] for sample in samples]
    p50, p95 = statistics.median(times_only), times_only[int(0.95 * (len(times_only) - 1))]
    print(f"{SPREAD}{len(samples)} artifacts: median {p50:.2f} ms, 95th percentile {p95:.2f}, max {times_only[-1]:.2f}")
    BENCHMARK.finish(p50, "ms", good=p50 < GOAL, small=small)
