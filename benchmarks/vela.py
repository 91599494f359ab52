"""vela: how long Vela takes for one model, from the prepared TFLite file to the estimate."""

from __future__ import annotations

import shutil
import statistics
import time

from benchmarks._made import make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, spread
from crossfarm.backends.ethos_u import backend
from crossfarm.backends.project_files import load_targets
from crossfarm.config.cell import Cell
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

GOAL = 2.0
MODELS = ("resnet8", "keyword_spotting", "visual_wake_words", "anomaly_detection")
TARGET = "ethos_u55_128"

BENCHMARK = Benchmark(
    name="vela",
    what="compiling a TFLite model with Vela, its start included: the slowest of the four MLPerf Tiny models",
    how="median of 5 for each model",
    goal=f"under {GOAL} s",
    minutes=0.5,
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    folder = SCRATCH / "vela"
    code = load_targets(HOME / "toolchains")[TARGET].code
    assert isinstance(code, backend.EthosUCode)
    slowest: list[float] = []
    for name in MODELS[:1] if small else MODELS:
        chosen = Selection(only=(f"{TARGET}-{name}-int8",), stages=("prepare",))
        made = make(Options(pipeline="accelerators", selection=chosen))
        samples = []
        for _ in range(2 if small else 5):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            started = time.perf_counter()
            cell = Cell(model=name, target=TARGET, variant="int8")
            backend.compile(cell=cell, model=made.folder(f"prepare:{name}") / "model.onnx", code=code, output=folder)
            samples.append(time.perf_counter() - started)
        print(f"{name}: {spread(samples)}")
        slowest = max(slowest, samples, key=lambda row: statistics.median(row) if row else 0.0)
    print(f"{SPREAD}{spread(slowest)}")
    value = statistics.median(slowest)
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)
