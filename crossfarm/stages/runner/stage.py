"""Stage `runner`: compiles what all bundles of a target have in common; a bundle compiles its own tables alone."""

from __future__ import annotations

from crossfarm.bundles.runner_sources import RUNNER_SOURCES
from crossfarm.stages.c_library.stage import Linking, linking
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Needs, Scope, Subject
from crossfarm.util.paths import HOME

RUNNER = HOME / "runner"
"""The runner's sources stand beside the package, wherever models.yaml stands."""

VERSION = 1
SCOPE: Scope = "target"
SOURCES = (
    "crossfarm/bundles/c_library.py",
    "crossfarm/bundles/runner_objects.py",
    "crossfarm/bundles/runner_sources.py",
    "crossfarm/util/processes.py",
    "crossfarm/bundles/c_compiler.py",
    "crossfarm/util/scratch.py",
    "crossfarm/stages/c_library/stage.py",
    "crossfarm/stages/runner/stage.py",
    *(f"runner/{name}" for name in RUNNER_SOURCES),
)
TOOLS = ("ziglang",)


def needs(subject: Subject) -> Needs:
    """Depend on the C compiler alone, so that targets with the same one share a job."""
    if subject.target is None:
        raise ValueError("the stage `runner` is about a target")
    return Needs(parameters={"linking": linking(subject.target)}, inputs={})


def run(job: Job) -> None:
    """Write an object for each source file of library and programs.

    Raises:
        ToolError: the C compiler is missing or fails.
    """
    from crossfarm.bundles.runner_objects import compile_runner

    wanted = Linking.model_validate(job.group("linking"))
    compile_runner(wanted.compiler, static=wanted.is_static, sources=RUNNER, output=job.output)
