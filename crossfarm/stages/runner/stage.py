"""Stage `runner`: compiles what all bundles of a target have in common; a bundle compiles its own tables alone."""

from __future__ import annotations

from crossfarm.stages.c_library.stage import Linking, linking
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="target",
    sources=(
        "crossfarm/stages/runner/",
        "crossfarm/stages/c_library/",
        "crossfarm/bundles/linking/",
        "runner/library/",
        "runner/program/",
        "runner/server/",
    ),
    tools=("ziglang",),
    requested_by="bundle",
    calls_c_compiler=True,
    usual_seconds=4.0,
)


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
    from crossfarm.bundles.linking.runner_objects import compile_runner
    from crossfarm.bundles.linking.runner_sources import RUNNER

    wanted = Linking.model_validate(job.group("linking"))
    compile_runner(wanted.compiler, static=wanted.is_static, sources=RUNNER, output=job.output)
