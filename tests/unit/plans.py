"""A small project on disk and its plan, for the tests of plans."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

from crossfarm.backends.project_files import load_project
from crossfarm.config.project import Project
from crossfarm.pipeline.plan import Selection, make_plan
from crossfarm.pipeline.plan_types import BoardAccess, KeyContext, Plan, StageContext
from crossfarm.stages import STAGES

MODELS = """
datasets:
  - {kind: rendered_text, name: lines, texts: ["12", "34"]}
models:
  - name: one
    licence: MIT
    source: {package: shared==1.0, sha256: "%(sha)s", path: one.onnx}
    inputs: [{name: x, shape: [1, 4]}]
  - name: two
    licence: MIT
    source: {package: shared==1.0, sha256: "%(sha)s", path: two.onnx}
    inputs: [{name: x, shape: [1, 3, 8, 8]}]
    data: [lines]
    preprocess: {resize: {fit: [8, 8]}}
    skip: [{target: armv7, reason: "too large for the board"}]
""" % {"sha": "a" * 64}  # noqa: UP031

TOOLCHAIN = """
name: {name}
machine: [{name}]
code: {{triple: {name}-linux-gnu, cpu: generic{extra}}}
compiler: {{kind: zig, target: {zig}}}
"""


def write_project(folder: Path, *, cpu_of_armv7: str = "") -> Project:
    """Write the declaration of two models and two targets, and load it."""
    (folder / "toolchains").mkdir(exist_ok=True)
    (folder / "pipelines").mkdir(exist_ok=True)
    (folder / "models.yaml").write_text(textwrap.dedent(MODELS))
    for name, zig in (("x86_64", "x86_64-linux-gnu.2.17"), ("armv7", "arm-linux-gnueabihf.2.17")):
        text = TOOLCHAIN.format(name=name, zig=zig, extra=", float_abi: hard" if name == "armv7" else "")
        if name == "armv7" and cpu_of_armv7:
            text = text.replace("cpu: generic", f"cpu: {cpu_of_armv7}")
        (folder / "toolchains" / f"{name}.yaml").write_text(text)
    (folder / "pipelines" / "default.yaml").write_text("name: default\ntargets: [x86_64, armv7]\n")
    return load_project(
        models=folder / "models.yaml",
        toolchains=folder / "toolchains",
        pipeline=folder / "pipelines" / "default.yaml",
    )


def context(**changes: object) -> KeyContext:
    """Return what keys depend on beside the declaration: one native target and one that is emulated."""
    plain = KeyContext(
        stages=lambda stage, backend: StageContext(sources=stage[0] * 64, tools={}),
        image={"x86_64": "host", "armv7": "host"},
        model_image=dict.fromkeys(("onnx", "tflite", "torch"), "host"),
        content=lambda source: "c" * 64,
        boards={
            "x86_64": BoardAccess(parameters={"id": "local"}, exclusive=True),
            "armv7": BoardAccess(parameters={"id": "local", "emulator": "qemu"}, exclusive=False),
        },
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def make(project: Project, selection: Selection | None = None, **changes: object) -> Plan:
    """Return the plan of a project."""
    return make_plan(project, selection or Selection(), stages=STAGES, context=context(**changes))
