"""Stage `interfaces`: CMake file, C++ example and Python module, which stand in a bundle beside what runs on a board.

It is apart from the stage `bundle`, so that another text of the example links and measures nothing again.
"""

from __future__ import annotations

import json
from typing import Any

from crossfarm.config.base import Declared
from crossfarm.config.decoding import Decode
from crossfarm.config.models import Preprocess
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject
from crossfarm.util.paths import HOME

DECLARATION = Declaration(
    version=1,
    scope="cell",
    sources=(
        "crossfarm/stages/interfaces/",
        "crossfarm/bundles/compile_report.py",
        "crossfarm/bundles/interfaces.py",
        "runner/interfaces/",
    ),
    usual_seconds=0.2,
)


class _Model(Declared):
    """What of a model's entry its users want to know."""

    description: str
    licence: str
    inputs: tuple[str, ...]
    preprocess: Preprocess | None
    decode: Decode | None


def needs(subject: Subject) -> Needs:
    """Depend on what was compiled, on the names of the reference and on what models.yaml says to users."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `interfaces` is about a cell")
    if subject.target is not None and subject.target.is_freestanding:
        return Needs(parameters={"firmware": {"freestanding": True}}, inputs={"compile": ("compile", None)})
    fields = {"description", "licence", "preprocess", "decode"}
    return Needs(
        parameters={
            f"model {model.name}": subject.group(
                "interfaces",
                model.name,
                make=lambda: {
                    **model.model_dump(mode="json", include=fields),
                    "inputs": [item.name for item in model.inputs if item.value is None],
                },
            )
        },
        inputs={"compile": ("compile", None), "reference": ("reference", None)},
    )


def run(job: Job) -> None:
    """Write CMakeLists.txt, example/ and python/MODEL/; for a processor without an operating system the first alone.

    Raises:
        BundleError: compile.json cannot be read.
    """
    from crossfarm.bundles.compile_report import CompileReport
    from crossfarm.bundles.interfaces import About, write_firmware_interface, write_interfaces

    report = CompileReport.read(job.inputs["compile"] / "compile.json")
    if "firmware" in job.parameters:
        write_firmware_interface(report=report, runner=HOME / "runner", output=job.output)
        return
    model = _Model.model_validate(job.group("model"))
    document: Any = json.loads((job.inputs["reference"] / "reference.json").read_text(encoding="utf-8"))
    write_interfaces(
        report=report,
        about=About(**{name: getattr(model, name) for name in _Model.model_fields}),
        classes=document["classes"],
        characters=document["characters"],
        runner=HOME / "runner",
        output=job.output,
    )
