"""mera: how long a model takes from ONNX to cycles with EdgeCortix MERA."""

from __future__ import annotations

import shutil
import time

from benchmarks._made import make
from benchmarks._measuring import SCRATCH, SPREAD, Benchmark
from crossfarm.backends.mera import backend
from crossfarm.backends.project_files import load_targets
from crossfarm.boards.protocol import Purpose, this_host
from crossfarm.boards.simulators import mera
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

GOAL = 60.0
MODEL, TARGET = "mnist_cnn", "mera_f200"

BENCHMARK = Benchmark(
    name="mera",
    what="mnist_cnn on DNA-F200, cold: quantised, compiled for four targets of MERA, all cases answered by the "
    "functional model, one simulated",
    how="once, in folders that are empty",
    goal=f"under {GOAL:g} s",
    minutes=0.5,
)

if __name__ == "__main__":
    small = BENCHMARK.parser(__doc__).parse_args().small
    if (missing := mera.missing()) is not None:
        raise SystemExit(missing)
    folder = SCRATCH / "mera"
    cell = Cell(model=MODEL, target=TARGET, variant="float32")
    code = load_targets(HOME / "toolchains")[TARGET].code
    assert isinstance(code, backend.MeraCode)
    chosen = Selection(only=(cell.id,), targets=(TARGET,), stages=("prepare", "reference", "calibration"))
    made = make(Options(selection=chosen))
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("compiled", "bundle"):
        (folder / name).mkdir(parents=True)
    started = time.perf_counter()
    backend.compile(
        cell=cell,
        model=made.folder(f"prepare:{MODEL}") / "model.onnx",
        code=code,
        output=folder / "compiled",
        calibration=made.folder(f"calibration:{MODEL}"),
    )
    compiled = time.perf_counter() - started
    order = BundleOrder(
        cell=cell, compiled=folder / "compiled", reference=made.folder(f"reference:{MODEL}"), linking=None
    )
    backend.bundle(order, output=folder / "bundle")
    purpose = Purpose(target=TARGET, machine=("dna-f200",), emulator=None, code=None)
    found = mera.open_board(this_host(TARGET), purpose, token=0).simulate(
        folder / "bundle", {}, cases=1, timeout=10 * GOAL
    )
    value = time.perf_counter() - started
    print(f"{SPREAD}{compiled:.1f} s of it to compile; {found.cycles[0]:,} cycles")
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)
