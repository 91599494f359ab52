"""plan10k: how long plan and decisions of 10,000 cells take, and whether that grows linearly from 1,000."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, spread
from crossfarm.backends.project_files import load_project
from crossfarm.boards.inventory import load_inventory
from crossfarm.pipeline.key_context import read_key_context
from crossfarm.pipeline.plan import Selection, make_plan
from crossfarm.pipeline.staleness import find_stale
from crossfarm.stages import STAGES
from crossfarm.store.store import Store
from crossfarm.util.paths import HOME

GOAL = 2.0
MOST_PER_CELL = 1.5

BENCHMARK = Benchmark(
    name="plan10k",
    what="plan and decisions for 10,002 cells, and for 1,002; loading models.yaml is shown beside it",
    how="median of 3; how much more a cell takes among ten times as many",
    goal=f"under {GOAL} s, at most {MOST_PER_CELL} x per cell",
    minutes=0.3,
)

ENTRY = """
  - name: model_{number:05d}
    licence: MIT
    source: {{package: shared-models==1.{wheel}, sha256: {sha}, path: model_{number}.onnx}}
    inputs: [{{name: x, shape: [1, 3, {side}, {side}], layout: NCHW}}]
    checks: {{tolerance: 0.0001}}
"""


def measure(models: int, folder: Path) -> tuple[float, float]:
    """Return the seconds of loading and of planning `models` models for three targets."""
    sha = "a" * 64
    text = "".join(
        ENTRY.format(number=number, wheel=number // 10, side=8 + number % 64, sha=sha) for number in range(models)
    )
    path = folder / f"models_{models}.yaml"
    path.write_text("models:" + text)
    started = time.perf_counter()
    project = load_project(models=path, toolchains=HOME / "toolchains", pipeline=HOME / "pipelines" / "default.yaml")
    loaded = time.perf_counter()
    inventory = load_inventory(None, default=folder / "boards.yaml", targets=project.targets)
    plan = make_plan(project, Selection(), stages=STAGES, context=read_key_context(project, inventory))
    find_stale(plan, Store(folder / "store"))
    planned = time.perf_counter()
    assert len(plan.cells) == 3 * models
    return loaded - started, planned - loaded


if __name__ == "__main__":
    is_small = BENCHMARK.parser(__doc__).parse_args().small
    fewer, more = (10, 100) if is_small else (334, 3334)
    shutil.rmtree(SCRATCH / "plan10k", ignore_errors=True)
    (SCRATCH / "plan10k").mkdir(parents=True)
    small, large = [], []
    for _ in range(3):
        small.append(measure(fewer, SCRATCH / "plan10k"))
        large.append(measure(more, SCRATCH / "plan10k"))
    for cells, rows in ((f"{3 * fewer:,}", small), (f"{3 * more:,}", large)):
        load, plan = (statistics.median(row[column] for row in rows) for column in (0, 1))
        print(f"{cells} cells: models.yaml loaded in {load:.3f} s, planned in {plan:.3f} s")
    value = statistics.median(row[1] for row in large)
    growth = value / (statistics.median(row[1] for row in small) * more / fewer)
    print(f"time per cell grows by a factor of {growth:.2f} from {3 * fewer:,} cells to {3 * more:,}")
    print(f"{SPREAD}{spread([row[1] for row in large])}; per cell {growth:.2f} x")
    shutil.rmtree(SCRATCH / "plan10k", ignore_errors=True)
    BENCHMARK.finish(value, "s", good=value < GOAL and growth < MOST_PER_CELL, small=is_small)
