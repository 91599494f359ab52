"""What a pipeline made, by the keys of the very plan that was run: another run's artifacts are never taken for it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks._measuring import INV, SCRATCH, seconds_of
from crossfarm.pipeline.declared import load
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan_types import Plan
from crossfarm.pipeline.run import plan_and_decide
from crossfarm.store.store import Artifact, Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """The plan of a run, and the store that holds what it made."""

    plan: Plan
    store: Store

    def artifact(self, job: str) -> Artifact:
        """Return what a job of the plan made.

        Raises:
            SystemExit: it is not in the store.
        """
        planned = self.plan.jobs.get(job)
        artifact = self.store.read(planned.key) if planned is not None else None
        if artifact is None:
            raise SystemExit(f"the run that was to make {job} did not: {self.store.root} has no artifact of its key")
        return artifact

    def folder(self, job: str) -> Path:
        """Return a folder with the files of what a job of the plan made."""
        folder = SCRATCH / job.replace(":", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.store.restore(self.artifact(job), folder)
        return folder

    def cells(self, *, stage: str, target: str) -> Iterator[tuple[str, str, str]]:
        """Yield the job, the model and the variant of a stage of each cell of a target, in order of their names."""
        found = [
            (job.id, job.cell.model, job.cell.variant)
            for job in self.plan.jobs.values()
            if job.stage == stage and job.cell is not None and job.cell.target == target
        ]
        yield from sorted(found)


def make(options: Options) -> Made:
    """Run the pipeline of some options as a user would, and return what it made.

    Raises:
        SystemExit: it failed; its output was shown.
    """
    selection = options.selection
    chosen: Mapping[str, str] = {
        "--models": str(options.models),
        "--pipeline": options.pipeline,
        "--store": str(options.store),
        "--engine": options.engine,
        "--out": str(SCRATCH / "out"),
        "--only": ",".join(selection.only),
        "--targets": ",".join(selection.targets),
        "--stages": ",".join(selection.stages),
    }
    words = [word for name, value in chosen.items() if value for word in (name, value)]
    seconds_of([*INV, "pipeline", *words])
    return planned(options)


def planned(options: Options) -> Made:
    """Return what a run of some options made, or would make, by the plan of this moment."""
    store = Store(options.store)
    plan, _ = plan_and_decide(options, load(options), store)
    return Made(plan=plan, store=store)
