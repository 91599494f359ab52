"""Stage `c_library`: has zig build the C library of a target, once for all bundles that are linked for it.

What zig builds stays in its cache, whose files name each other and the times of zig's own files: the same build gives
other bytes on another host, so it is no artifact. The artifact names what was built. Where the cache has lost it,
`lost` says so, and the job runs again before anything is linked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from crossfarm.config.base import Declared
from crossfarm.config.targets import CommandCompiler, Target, ZigCompiler
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="target",
    sources=("crossfarm/stages/c_library/", "crossfarm/bundles/linking/"),
    tools=("ziglang",),
    requested_by="bundle",
    in_images=True,
    leaves_cache=True,
    calls_c_compiler=True,
    usual_seconds=60.0,
)
BUILT = "c_library.json"
"""The file of the artifact: the zig targets whose C library was built."""


class Linking(Declared):
    """What of a toolchain file shapes all that is compiled and linked for a target, whatever the model."""

    compiler: Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]
    linkage: Literal["dynamic", "static"]

    @property
    def is_static(self) -> bool:
        """Return whether programs are linked statically, and no shared library is made."""
        return self.linkage == "static"


def linking(target: Target) -> Mapping[str, Any]:
    """Return the parameters of a `Linking` as plain JSON values."""
    return target.model_dump(mode="json", include={"compiler", "linkage"})


def needs(subject: Subject) -> Needs:
    """Depend on the C compiler alone, so that targets with the same one share a job."""
    if subject.target is None:
        raise ValueError("the stage `c_library` is about a target")
    return Needs(parameters={"linking": linking(subject.target)}, inputs={})


def run(job: Job) -> None:
    """Build what the cache lacks, and write c_library.json.

    Raises:
        ToolError: zig is missing or fails.
    """
    from crossfarm.bundles.linking.c_compiler import Toolchain
    from crossfarm.util.scratch import scratch_folder

    wanted = Linking.model_validate(job.group("linking"))
    with scratch_folder("link") as folder:
        toolchain = Toolchain(compiler=wanted.compiler, static=wanted.is_static, folder=Path(folder))
        built = toolchain.build_c_libraries()
    (job.output / BUILT).write_text(json.dumps({"targets": built}, indent=2) + "\n")


def lost(groups: Mapping[str, Any], *, cache: Path) -> str:
    """Return in words what a compiler cache lacks of what this job built; empty when it lacks nothing.

    Args:
        groups: parameter groups of the job.
        cache: zig's cache.
    """
    from crossfarm.bundles.linking import c_library

    wanted = Linking.model_validate(groups["linking"])
    missing = c_library.missing(wanted.compiler, static=wanted.is_static, cache=cache)
    return f"{cache} has no C library of {' and '.join(missing)}" if missing else ""
