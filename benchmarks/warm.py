"""warm: a second run with nothing changed, beyond the start of an empty Python program.

Two such runs: the default pipeline as it is declared, and 100 cells. Those are cells of models.yaml under other names.
Compiling the same model a dozen times would say nothing about a warm run, so the artifacts of the real cells (made
first, if they are not in the store) are put into a store of their own under the keys of the renamed ones. What is timed
is the real command line; the slower of the two counts.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks._made import Made, make, planned
from benchmarks._measuring import INV, SCRATCH, SPREAD, Benchmark, interpreter_start, seconds_of, spread
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.pipeline.plan_types import PlannedJob
from crossfarm.store.store import Artifact, Store
from crossfarm.util.paths import HOME

GOAL = 0.5
CELLS = 100
COPIES = ("silero_vad", "ppocr_cls", "pplcnet_orientation")
REPEAT = 9
WORK = SCRATCH / "warm"

BENCHMARK = Benchmark(
    name="warm",
    what=f"a second run with nothing changed, beyond the start of an empty Python program: the default pipeline, and "
    f"{CELLS} cells",
    how=f"median of {REPEAT} runs of the real command, the slower of the two; the {CELLS} cells are real ones under "
    "other names",
    goal=f"under {GOAL} s",
    minutes=1,
)


def renamed_models(path: Path, *, names: Sequence[str], cells: int) -> int:
    """Write models.yaml with as many renamed copies as make so many cells on three targets; returns how many models."""
    declared = yaml.safe_load((HOME / "models.yaml").read_text())
    originals = [model for model in declared["models"] if model["name"] in names]
    used = {name for model in originals for name in model.get("data", ())}
    declared["datasets"] = [item for item in declared["datasets"] if item["name"] in used]
    count = -(-cells // 3)
    declared["models"] = [
        {**originals[number % len(originals)], "name": f"{originals[number % len(originals)]['name']}_copy{number}"}
        for number in range(count)
    ]
    path.write_text(json.dumps(declared, indent=1))
    return count


def original_name(name: str) -> str:
    """Return the name of the model or cell that a renamed one is a copy of."""
    head, _, tail = name.partition("_copy")
    return head + tail.lstrip("0123456789")


def copy_artifact(artifact: Artifact, job: PlannedJob, real: Store, copy: Store, folder: Path) -> None:
    """Put the files of a real artifact into the copy's store under a renamed job's key."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in artifact.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real.object_path(file.object), path)
        path.chmod(0o755 if file.executable else 0o644)
    if job.stage == "check" and job.cell is not None:
        records = folder / "records.jsonl"
        records.write_text(records.read_text().replace(f'"{original_name(job.cell.id)}"', f'"{job.cell.id}"'))
    copy.put(key=job.key, job=job.id, folder=folder, document=job.document, groups=job.groups, seconds=artifact.seconds)


def again(options: Options, made: Made, *, repeat: int, name: str) -> list[float]:
    """Return the seconds of each run of a pipeline all of whose jobs are up to date, after one that is not counted."""
    command = [*INV, "pipeline", "--models", str(options.models), "--store", str(options.store)]
    command += ["--out", str(WORK / "out")]
    if options.selection.only:
        command += ["--only", ",".join(options.selection.only)]
    seconds_of(command)
    samples = [seconds_of(command) for _ in range(repeat)]
    print(f"{name}: {len(made.plan.cells)} cells, {len(made.plan.jobs)} jobs, all up to date: {spread(samples)}")
    return samples


def renamed(real: Made, *, names: Sequence[str], cells: int) -> Options:
    """Return the options of a project of renamed cells, whose store holds what the real ones made."""
    renamed_models(WORK / "models.yaml", names=names, cells=cells)
    options = Options(models=WORK / "models.yaml", store=WORK / "store")
    plan, copy = planned(options).plan, Store(options.store)
    for job in plan.jobs.values():
        stage, _, subject = job.id.partition(":")
        original = job.id if stage == "fetch" else f"{stage}:{original_name(subject)}"
        copy_artifact(real.artifact(original), job, real.store, copy, WORK / "store" / "work" / "copy")
    return options


def main() -> None:
    """Time both."""
    small = BENCHMARK.parser(__doc__).parse_args().small
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    names, repeat = (COPIES[:1], 2) if small else (COPIES, REPEAT)
    declared = Options(selection=Selection(only=("*-silero_vad-*",) if small else ()))
    real = make(declared)
    figures = [again(declared, real, repeat=repeat, name="default pipeline")]
    copies = renamed(real, names=names, cells=3 if small else CELLS)
    figures.append(again(copies, planned(copies), repeat=repeat, name="renamed cells"))
    start = interpreter_start()
    print(f"an empty Python program: median {start:.3f} s")
    beyond = [[sample - start for sample in samples] for samples in figures]
    print(f"{SPREAD}default pipeline {spread(beyond[0])}; renamed cells {spread(beyond[1])}")
    value = max(statistics.median(samples) for samples in beyond)
    shutil.rmtree(WORK, ignore_errors=True)
    BENCHMARK.finish(value, "s", good=value < GOAL, small=small)


if __name__ == "__main__":
    main()
