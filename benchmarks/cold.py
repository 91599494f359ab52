"""cold: what the farm costs on top of compiling, and what a second job at once gains.

A plain script calls the backend for the same models and targets one after another, in one process. The farm makes the
same artifacts with `--stages compile`, everything before it being in the store. All three ways take turns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks._measuring import INV, ROOT, SCRATCH, finish, seconds_of, spread
from crossfarm.options import Options
from crossfarm.pipeline import load, plan_and_decide
from crossfarm.store import Store

MODELS = ("silero_vad", "ppocr_cls", "mnist_cnn", "resnet8")
TARGETS = ("x86_64", "aarch64", "armv7")
MOST_OVERHEAD = 1.05
LEAST_GAIN = 1.7
ROUNDS = 3

PLAIN = """
import json, os, sys
from pathlib import Path
import crossfarm.backends.tvm as backend
from crossfarm.spec.cells import Cell
from crossfarm.spec.loading import load_targets
root, work = Path(sys.argv[1]), Path(sys.argv[2])
targets = load_targets(root / "toolchains")
for number, (model, variant, path, target) in enumerate(json.loads(sys.argv[3])):
    output = work / str(number)
    output.mkdir(parents=True)
    cell = Cell(model=model, target=target, variant=variant)
    backend.compile(cell=cell, model=Path(path), code=targets[target].code, output=output)
"""


def prepared(store: Store) -> list[tuple[str, str, str, str]]:
    """Return model, variant, path of the prepared model and target of every compile."""
    options = Options(store=store.root, engine="local")
    plan, _ = plan_and_decide(options, load(options), store)
    found = []
    for cell in plan.cells:
        if cell.model in MODELS and cell.target in TARGETS:
            artifact = store.read(plan.jobs[f"prepare:{cell.model}"].key)
            assert artifact is not None
            found.append((cell.model, cell.variant, str(store.file_path(artifact, "model.onnx")), cell.target))
    return found


def farm(jobs: int, before: Path, folder: Path) -> float:
    """Return the seconds of the farm with `jobs` at once, on a copy of the store that holds no compile."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder / "store", copy_function=shutil.copy2)
    only = ",".join(f"*-{model}-*" for model in MODELS)
    return seconds_of(
        [
            *INV, "pipeline", "--engine", "local", "--only", only, "--stages", "compile", "--jobs", str(jobs),
            "--store", str(folder / "store"), "--out", str(folder / "out"),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    work = SCRATCH / "cold"
    shutil.rmtree(work, ignore_errors=True)
    only = ",".join(f"*-{model}-*" for model in MODELS)
    before = work / "before" / "store"
    seconds_of(
        [
            *INV, "pipeline", "--engine", "local", "--only", only, "--stages", "prepare",
            "--store", str(before), "--out", str(work / "out"),
        ]
    )  # fmt: skip
    compiles = prepared(Store(before))
    plain, one, two = [], [], []
    for turn in range(ROUNDS):
        folder = work / "plain"
        shutil.rmtree(folder, ignore_errors=True)
        script = [sys.executable, "-c", PLAIN, str(ROOT), str(folder), json.dumps(compiles)]
        plain.append(seconds_of(script))
        one.append(farm(1, before, work / "farm"))
        two.append(farm(2, before, work / "farm"))
        print(
            f"round {turn + 1}: plain {plain[-1]:.1f} s, --jobs 1 {one[-1]:.1f} s, --jobs 2 {two[-1]:.1f} s", flush=True
        )
    for name, samples in (("plain script", plain), ("--jobs 1", one), ("--jobs 2", two)):
        print(f"{name}, {len(compiles)} compiles: {spread(samples)}")
    overhead = statistics.median(o / p for o, p in zip(one, plain, strict=True))
    gain = statistics.median(o / t for o, t in zip(one, two, strict=True))
    print(f"--jobs 2 is {gain:.2f} x faster than --jobs 1 (goal at least {LEAST_GAIN})")
    shutil.rmtree(work, ignore_errors=True)
    finish(
        "cold",
        overhead,
        "x of a plain script at --jobs 1",
        f"at most {MOST_OVERHEAD}, and at least {LEAST_GAIN} x faster at --jobs 2",
        good=overhead <= MOST_OVERHEAD and gain >= LEAST_GAIN,
    )
