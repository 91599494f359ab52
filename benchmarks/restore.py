"""restore: how long it takes to lay an artifact out for a job, its content hashed; over all artifacts of the store."""

from __future__ import annotations

import shutil
import statistics
import time

from benchmarks._measuring import ROOT, SCRATCH, SPREAD, Benchmark
from crossfarm.store import Store

GOAL = 10.0

BENCHMARK = Benchmark(
    name="restore",
    what="laying an artifact out for a job, its content hashed",
    how="every artifact of the store, the median of 3 each; the median artifact (the 95th percentile and the slowest are "
    "shown)",
    goal=f"median artifact under {GOAL:.0f} ms",
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    store = Store(ROOT / ".crossfarm" / "store")
    found = [artifact for path in store.root.glob("artifacts/??/*") if (artifact := store.read(path.name))]
    if not found:
        raise SystemExit("the store is empty: run ./inv pipeline first")
    samples: list[tuple[float, int, str]] = []
    for artifact in found[:20] if small else found:
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
    print(
        f"{SPREAD}{len(samples)} artifacts: p50 {p50:.2f} ms, p95 {p95:.2f} ms; what takes longer is hashing large files"
    )
    BENCHMARK.finish(p50, "ms", good=p50 < GOAL, small=small)
