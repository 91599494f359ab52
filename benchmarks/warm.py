"""warm: a second run of 100 cells with nothing changed, beyond the start of an empty Python program.

The cells are those of models.yaml under other names. Compiling the same model a dozen times would say nothing about a
warm run, so the artifacts of the real cells (made first, if they are not in the store) are put into a store of their
own under the keys of the renamed ones; the run that is timed is the real command line.
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import yaml

from benchmarks._measuring import INV, ROOT, SCRATCH, finish, interpreter_start, seconds_of, spread
from crossfarm.options import Options
from crossfarm.pipeline import load, plan_and_decide
from crossfarm.plan import PlannedJob
from crossfarm.store import Artifact, Store

GOAL = 0.5
CELLS = 100
COPIES = ("silero_vad", "ppocr_cls", "pplcnet_orientation")
REAL = ROOT / ".crossfarm" / "store"


def renamed_models(path: Path) -> int:
    """Write models.yaml with as many renamed copies as make 100 cells on three targets; returns how many models."""
    declared = yaml.safe_load((ROOT / "models.yaml").read_text())
    originals = [model for model in declared["models"] if model["name"] in COPIES]
    count = -(-CELLS // 3)
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


if __name__ == "__main__":
    work = SCRATCH / "warm"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    models = work / "models.yaml"
    count = renamed_models(models)
    seconds_of([*INV, "pipeline", "--only", ",".join(f"*-{name}-*" for name in COPIES), "--out", str(work / "real")])
    real, copy = Store(REAL), Store(work / "store")
    real_plan, _ = plan_and_decide(Options(store=REAL), load(Options(store=REAL)), real)
    options = Options(models=models, store=work / "store")
    plan, _ = plan_and_decide(options, load(options), copy)
    for job in plan.jobs.values():
        stage, _, subject = job.id.partition(":")
        original = real_plan.jobs[job.id if stage == "fetch" else f"{stage}:{original_name(subject)}"]
        artifact = real.read(original.key)
        assert artifact is not None, original.id
        copy_artifact(artifact, job, real, copy, work / "store" / "work" / "copy")
    command = [*INV, "pipeline", "--models", str(models), "--store", str(work / "store"), "--out", str(work / "out")]
    seconds_of(command)
    samples = [seconds_of(command) for _ in range(9)]
    start = interpreter_start()
    print(f"{count * 3} cells, {len(plan.jobs)} jobs, all up to date: {spread(samples)}")
    print(f"an empty Python program: median {start:.3f} s")
    value = statistics.median(samples) - start
    shutil.rmtree(work, ignore_errors=True)
    finish("warm", value, "s", f"under {GOAL} s beyond interpreter start", good=value < GOAL)
