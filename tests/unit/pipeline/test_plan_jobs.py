"""What a plan holds: the jobs, what each is keyed by, which are wanted, and what the accuracy ladder takes."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import cast

import pytest

from crossfarm.config.exceptions import Skip
from crossfarm.config.project import Project
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.config.targets import CommandCompiler
from crossfarm.errors import ConfigError
from crossfarm.pipeline.plan import Selection, make_plan, select_cells, without_collector
from crossfarm.pipeline.plan_jobs import source_label
from crossfarm.pipeline.plan_types import BoardAccess, Plan, StageContext
from crossfarm.stages import STAGES
from crossfarm.stages.protocol import Needs, Stage, Subject
from crossfarm.store.keys import KeyDocument, canonical_json, digest_json
from tests.unit.plans import context, make, write_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_project(tmp_path)


@pytest.fixture
def quantised(project: Project) -> Project:
    """The project with int8 for its first model, on both targets."""
    first, second = project.models_file.models
    models = (first.model_copy(update={"variants": ("float32", "int8")}), second)
    return dataclasses.replace(project, models_file=project.models_file.model_copy(update={"models": models}))


def _rich_context(stage: str, backend: str | None) -> StageContext:
    assert (backend == "tvm") == (STAGES[stage].DECLARATION.scope == "cell")
    groups = ("tuning",) if stage == "compile" else ()
    return StageContext(sources=digest_json(stage), tools={f"tool of {stage}": "1"}, groups=groups)


def _rich_plan(project: Project) -> Plan:
    return make(
        project,
        stages=_rich_context,
        image={"x86_64": "sha256:x", "armv7": "sha256:a"},
        model_image={"onnx": "sha256:m", "tflite": "sha256:t"},
        boards=context().boards | {"armv7": BoardAccess(parameters={"id": 7}, exclusive=True, boards=("p", "q"))},
        groups={"tuning": lambda cell: {"layer": 1} if cell.target == "armv7" else {}},
    )


def test_a_job_is_keyed_by_its_stage_its_groups_its_inputs_its_image_and_its_tools(quantised: Project) -> None:
    plan = _rich_plan(quantised)
    images = {
        "prepare": "sha256:m",
        "reference": "sha256:m",
        "quantize": "sha256:m",
        "fetch": "host",
        "measure": "host",
    }
    for name, job in plan.jobs.items():
        target = name.partition(":")[2].split("-")[0]
        assert job.id == name
        assert job.document == KeyDocument(
            stage=name.partition(":")[0],
            version=STAGES[job.stage].DECLARATION.version,
            parameters={group: digest_json(value) for group, value in job.groups.items()},
            sources=digest_json(job.stage),
            inputs={role: plan.jobs[other].key for role, other in job.inputs.items()},
            image=images.get(job.stage) or f"sha256:{target[0]}",
            tools={f"tool of {job.stage}": "1"},
        )
        assert job.key == job.document.key()


def test_a_job_is_about_a_source_a_model_or_a_cell_and_knows_its_groups_and_boards(quantised: Project) -> None:
    plan = _rich_plan(quantised)
    cell = "armv7-one-int8"
    found = {
        name: (job.cell.id if job.cell else None, job.model, sorted(job.groups), job.exclusive, job.boards)
        for name, job in plan.jobs.items()
        if name.endswith(("shared-1.0", ":one", cell))
    }
    assert found == {
        "fetch:shared-1.0": (None, None, ["source shared==1.0"], False, ()),
        "prepare:one": (None, "one", ["model one"], False, ()),
        "reference:one": (None, "one", ["measure", "model one"], False, ()),
        "quantize:one": (None, "one", ["model one", "quantisation"], False, ()),
        f"compile:{cell}": (cell, "one", ["model one", "toolchain armv7", f"tuning {cell}"], False, ()),
        f"bundle:{cell}": (cell, "one", ["model one", "toolchain armv7"], False, ()),
        f"measure:{cell}": (cell, "one", ["board", "measure", "toolchain armv7"], True, ("p", "q")),
        f"check:{cell}": (cell, "one", ["model one"], False, ()),
    }
    runner = plan.jobs["runner:armv7"]
    assert (runner.cell, runner.model, sorted(runner.groups), runner.inputs) == (None, None, ["linking"], {})
    assert plan.jobs[f"measure:{cell}"].groups["board"] == {"id": 7}
    assert plan.jobs[f"compile:{cell}"].groups[f"tuning {cell}"] == {"layer": 1}
    assert "tuning x86_64-one-int8" not in plan.jobs["compile:x86_64-one-int8"].groups
    assert "dataset lines" in plan.jobs["reference:two"].groups
    assert plan.wanted == set(plan.jobs)
    assert [cell.id for cell in plan.cells] == [
        *(f"{target}-one-{variant}" for target in ("x86_64", "armv7") for variant in ("float32", "int8")),
        "x86_64-two-float32",
    ]


def _with_target(project: Project, name: str, **changes: object) -> Project:
    """Return the project with another target, which is like x86_64 but for its name and what is changed."""
    target = project.targets["x86_64"].model_copy(update={"name": name, **changes})
    pipeline = project.pipeline.model_copy(update={"targets": (*project.pipeline.targets, name)})
    return dataclasses.replace(project, targets={**project.targets, name: target}, pipeline=pipeline)


def _plan_with(project: Project, name: str, **changes: object) -> Plan:
    around = context()
    return make(
        _with_target(project, name, **changes),
        image={**around.image, name: "host"},
        boards={**around.boards, name: around.boards["x86_64"]},
    )


def _about_targets(plan: Plan) -> set[str]:
    return {name for name in plan.jobs if name.startswith(("c_library:", "runner:"))}


def test_the_c_library_and_the_runner_are_one_job_each_for_all_bundles_of_a_target(quantised: Project) -> None:
    plan = make(quantised)
    assert _about_targets(plan) == {
        f"{stage}:{name}" for stage in ("c_library", "runner") for name in ("x86_64", "armv7")
    }
    for name, job in plan.jobs.items():
        if job.stage == "bundle" and job.cell:
            assert job.inputs["c_library"] == f"c_library:{job.cell.target}", name
            assert job.inputs["runner"] == f"runner:{job.cell.target}", name
    assert plan.wanted >= _about_targets(plan)


def test_targets_with_the_same_c_compiler_share_the_jobs_of_the_first(project: Project) -> None:
    plan = _plan_with(project, "wide")
    assert _about_targets(plan) == _about_targets(make(project))
    bundle = plan.jobs["bundle:wide-one-float32"]
    assert bundle.inputs == {
        "compile": "compile:wide-one-float32",
        "reference": "reference:one",
        "c_library": "c_library:x86_64",
        "runner": "runner:x86_64",
    }


def test_other_flags_of_the_c_compiler_are_another_job(project: Project) -> None:
    compiler = project.targets["x86_64"].compiler.model_copy(update={"flags": ("-mcpu=x86_64_v3",)})
    plan = _plan_with(project, "wide", compiler=compiler)
    assert _about_targets(plan) - _about_targets(make(project)) == {"c_library:wide", "runner:wide"}


def test_a_compiler_that_brings_its_c_library_has_no_job_for_it(project: Project) -> None:
    plan = _plan_with(project, "gcc", compiler=CommandCompiler(kind="command", command=("gcc",)))
    assert _about_targets(plan) - _about_targets(make(project)) == {"runner:gcc"}
    assert "c_library" not in plan.jobs["bundle:gcc-one-float32"].inputs


def test_an_image_holds_the_c_library_so_no_job_builds_it(project: Project) -> None:
    plan = make(project, image={"x86_64": "a" * 64, "armv7": "host"})
    assert _about_targets(plan) == {"c_library:armv7", "runner:armv7", "runner:x86_64"}
    assert "c_library" not in plan.jobs["bundle:x86_64-one-float32"].inputs
    assert plan.jobs["runner:x86_64"].document.image == "a" * 64


def test_cells_share_the_groups_that_are_the_same_for_them(quantised: Project) -> None:
    jobs = _rich_plan(quantised).jobs
    one, other = "x86_64-one-float32", "x86_64-one-int8"
    for stage in ("compile", "bundle", "measure"):
        group = jobs[f"{stage}:{one}"].groups["toolchain x86_64"]
        assert group is jobs[f"{stage}:{other}"].groups["toolchain x86_64"]
        assert group != jobs[f"{stage}:armv7-one-int8"].groups["toolchain armv7"]
    assert jobs[f"check:{one}"].groups != jobs[f"check:{other}"].groups
    assert jobs["measure:x86_64-two-float32"].groups["measure"] is jobs["measure:armv7-one-int8"].groups["measure"]


def test_only_what_was_asked_for_is_wanted(quantised: Project) -> None:
    def wanted(*stages: str) -> set[str]:
        plan = make(quantised, Selection(only=("*-one-*",), targets=("x86_64",), stages=stages))
        assert set(plan.wanted) < set(plan.jobs)
        return set(plan.wanted)

    assert wanted("fetch") == {"fetch:shared-1.0"}
    assert wanted("prepare") == {"prepare:one"}
    assert wanted("c_library") == {"c_library:x86_64"}
    assert wanted("runner") == {"runner:x86_64"}
    assert wanted("quantize", "compile") == {"quantize:one", "compile:x86_64-one-float32", "compile:x86_64-one-int8"}


LADDER = "check:armv7-one-int8"


@pytest.mark.parametrize(
    "there",
    [
        BoardAccess(parameters={}, exclusive=False),
        BoardAccess(parameters={}, exclusive=True, missing="no board"),
        BoardAccess(parameters={}, exclusive=True, boards=("pi",)),
    ],
)
def test_the_accuracy_ladder_takes_no_cell_but_one_that_this_host_runs_itself(
    quantised: Project, there: BoardAccess
) -> None:
    boards = context().boards
    assert make(quantised).jobs[LADDER].inputs["compiled"] == "measure:x86_64-one-int8"
    without = make(quantised, boards={**boards, "x86_64": there})
    assert "compiled" not in without.jobs[LADDER].inputs
    float32 = make(quantised).jobs["check:armv7-one-float32"]
    assert "compiled" not in float32.inputs
    both = make(quantised, boards={**boards, "armv7": BoardAccess(parameters={}, exclusive=True)})
    assert "compiled" not in both.jobs[LADDER].inputs, "it runs on this host itself"


def test_the_accuracy_ladder_takes_the_first_cell_that_is_not_skipped(quantised: Project) -> None:
    boards = {**context().boards, "other": BoardAccess(parameters={}, exclusive=False)}
    boards["armv7"] = BoardAccess(parameters={}, exclusive=True)
    other = quantised.targets["armv7"].model_copy(update={"name": "other"})
    more = dataclasses.replace(quantised, targets={**quantised.targets, "other": other})
    image = {"x86_64": "host", "armv7": "host", "other": "host"}

    def compiled(project: Project) -> str:
        selection = Selection(targets=("x86_64", "armv7", "other"), only=("*-one-*",))
        return make(project, selection, boards=boards, image=image).jobs["check:other-one-int8"].inputs["compiled"]

    assert compiled(more) == "measure:x86_64-one-int8"
    first, second = more.models_file.models
    skip = (Skip(target="x86_64", reason="broken"),)
    models = (first.model_copy(update={"skip": skip}), second)
    skipped = dataclasses.replace(more, models_file=more.models_file.model_copy(update={"models": models}))
    assert compiled(skipped) == "measure:armv7-one-int8"


def test_a_target_that_cannot_be_run_is_told_only_when_it_was_to_run(project: Project) -> None:
    boards = {**context().boards, "armv7": BoardAccess(parameters={}, exclusive=False, missing="no board")}
    told = [(skip.cell.id, skip.stage, skip.reason) for skip in make(project, boards=boards).skipped]
    assert told == [
        ("armv7-one-float32", "measure", "no board"),
        ("armv7-two-float32", None, "too large for the board"),
    ]
    for stages, count in ((("compile",), 0), (("check",), 1), (("measure",), 1)):
        plan = make(project, Selection(only=("armv7-one-*",), stages=stages), boards=boards)
        assert len(plan.skipped) == count
        assert [cell.id for cell in plan.cells] == ["armv7-one-float32"]
        assert not [name for name in plan.jobs if name.startswith(("measure", "check"))]


def test_a_declared_file_is_keyed_by_its_content(project: Project) -> None:
    first, second = project.models_file.models
    source = FileSource(file="models/a b.onnx")
    models = (first.model_copy(update={"source": source}), second)
    plan = make(
        dataclasses.replace(project, models_file=project.models_file.model_copy(update={"models": models})),
        content=lambda found: f"content of {found.file}",
    )
    job = plan.jobs[f"fetch:{source_label(source)}"]
    assert job.groups["content"] == "content of models/a b.onnx"
    assert plan.jobs["prepare:one"].inputs == {"source": job.id}
    assert "content" not in plan.jobs["fetch:shared-1.0"].groups


def test_labels_of_sources_hold_the_name_and_the_start_of_a_digest() -> None:
    long = "x" * 70
    assert source_label(Package(package="a_b==1!0+c", sha256="a" * 64)) == "a_b-1-0-c"
    assert source_label(UrlSource(url=f"https://example.org/d/{long}", sha256="b" * 64)) == f"{long[:60]}-{'b' * 12}"
    assert source_label(UrlSource(url="https://example.org/d/x%20y", sha256="b" * 64)) == f"x-20y-{'b' * 12}"
    path = f"models/deep/{long}"
    assert source_label(FileSource(file=path)) == f"{long[:60]}-{digest_json(path)[:12]}"
    assert source_label(FileSource(file="a/b c")) == f"b-c-{digest_json('a/b c')[:12]}"


def test_the_collector_runs_again_after_a_plan_unless_it_was_off() -> None:
    assert gc.isenabled()
    with pytest.raises(RuntimeError), without_collector():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(only=("zzz",)), "--only zzz: no cell matches; cells are named like 'x86_64-one-float32'; "),
        (Selection(targets=("zzz",)), "--targets zzz: there is no toolchains/zzz.yaml; known targets: armv7, x86_64"),
        (Selection(stages=("zzz",)), "--stages zzz: there is no such stage; stages: fetch, prepare, reference, "),
    ],
)
def test_what_is_like_nothing_is_refused_with_what_there_is(
    project: Project, selection: Selection, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(project, selection)
    assert str(caught.value).startswith(message)


def test_names_of_models_in_a_pipeline_are_globs(project: Project) -> None:
    def models(*globs: str) -> list[str]:
        chosen = project.pipeline.model_copy(update={"models": globs})
        return [cell.id for cell in select_cells(dataclasses.replace(project, pipeline=chosen), Selection())]

    assert models("t*") == ["x86_64-two-float32", "armv7-two-float32"]
    assert len(models("one", "t*")) == 4
    assert models("none") == []
    nothing = dataclasses.replace(project, pipeline=project.pipeline.model_copy(update={"models": ()}))
    with pytest.raises(ConfigError, match=r"^--only a\*: no cell matches; \./inv plan lists all cells$"):
        select_cells(nothing, Selection(only=("a*",)))


def test_each_job_subject_and_digest_is_made_once(quantised: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Subject]] = []
    digested: list[object] = []

    def digest(value: object) -> str:
        digested.append(value)
        return digest_json(value)

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name, self.DECLARATION = name, STAGES[name].DECLARATION

        def needs(self, subject: Subject) -> Needs:
            asked.append((self.name, subject))
            return STAGES[self.name].needs(subject)

    monkeypatch.setattr("crossfarm.pipeline.plan_jobs.digest_json", digest)
    stages = cast(dict[str, Stage], {name: Recorded(name) for name in STAGES})
    plan = make_plan(quantised, Selection(), stages=stages, context=context())
    assert len(asked) == len(plan.jobs)
    groups = {canonical_json(group) for job in plan.jobs.values() for group in job.groups.values()}
    assert sorted(map(canonical_json, digested)) == sorted(groups)
    about_sources = [subject for stage, subject in asked if stage == "fetch"]
    about_models = [subject for stage, subject in asked if stage in ("prepare", "reference", "quantize")]
    about_cells = [subject for stage, subject in asked if stage in ("compile", "bundle", "measure", "check")]
    assert [(subject.source is None, subject.model) for subject in about_sources] == [(False, None)]
    assert {(subject.target, subject.variant) for subject in about_models} == {(None, None)}
    assert len({id(subject) for subject in about_models}) == 2
    assert len({id(subject) for subject in about_cells}) == len(plan.cells)
    assert {
        f"{subject.target.name}-{subject.model.name}-{subject.variant}"
        for subject in about_cells
        if subject.target and subject.model
    } == {cell.id for cell in plan.cells}
    assert {subject.pipeline.name for _, subject in asked} == {"default"}
    assert [[item.name for item in subject.datasets] for subject in about_models[-2:]] == [["lines"]] * 2


def test_a_bundle_of_a_target_without_a_c_compiler_is_linked_with_nothing(project: Project) -> None:
    plan = _plan_with(project, "array", compiler=None)
    assert plan.jobs["bundle:array-one-float32"].inputs == {
        "compile": "compile:array-one-float32",
        "reference": "reference:one",
    }
    assert _about_targets(plan) == _about_targets(make(project))
