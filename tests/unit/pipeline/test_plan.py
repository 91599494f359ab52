"""The plan: which cells, which jobs, which keys, and what is decided about them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_project
from crossfarm.config.project import Project
from crossfarm.config.sources import FileSource, Package, UrlSource
from crossfarm.errors import ConfigError
from crossfarm.pipeline.plan import Selection, select_cells
from crossfarm.pipeline.plan_jobs import source_label
from crossfarm.pipeline.plan_types import BoardAccess, Plan, PlannedJob
from crossfarm.pipeline.staleness import find_stale
from crossfarm.store.store import Store
from tests.unit.plans import context, make, write_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_project(tmp_path)


def test_a_cell_is_model_times_target_times_variant(project: Project) -> None:
    cells = select_cells(project, Selection())
    assert [cell.id for cell in cells] == [
        "x86_64-one-float32",
        "armv7-one-float32",
        "x86_64-two-float32",
        "armv7-two-float32",
    ]


def test_globs_select_cells_and_leave_cells_out(project: Project) -> None:
    chosen = select_cells(project, Selection(only=("*-one-*", "armv7-*"), skip=("armv7-two-*",)))
    assert [cell.id for cell in chosen] == ["x86_64-one-float32", "armv7-one-float32"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(only=("armv7-onw-float32",)), "--only armv7-onw-float32.*perhaps you meant 'armv7-one-float32'"),
        (Selection(skip=("zzz",)), "--skip zzz: no cell matches"),
        (Selection(targets=("armv8",)), "--targets armv8.*perhaps you meant 'armv7'"),
        (Selection(stages=("compil",)), "--stages compil.*perhaps you meant 'compile'"),
    ],
)
def test_a_selection_that_names_nothing_is_refused_with_the_nearest_name(
    project: Project, selection: Selection, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(project, selection)


def test_every_job_stands_behind_its_inputs(project: Project) -> None:
    plan = make(project)
    seen: set[str] = set()
    for name, job in plan.jobs.items():
        assert set(job.inputs.values()) <= seen
        seen.add(name)


def test_a_wheel_that_two_models_share_is_fetched_once(project: Project) -> None:
    fetches = [name for name in make(project).jobs if name.startswith("fetch:")]
    assert fetches == ["fetch:shared-1.0"]


def test_a_declared_skip_is_no_job_but_a_row_with_its_reason(project: Project) -> None:
    plan = make(project)
    assert not [name for name in plan.jobs if "armv7-two" in name]
    assert [(skip.cell.id, skip.reason) for skip in plan.skipped] == [("armv7-two-float32", "too large for the board")]


def test_a_variant_that_a_target_does_not_take_is_skipped_with_that_reason(project: Project) -> None:
    taken = project.targets["armv7"].model_copy(update={"variants": ("int8",)})
    narrowed = dataclasses.replace(project, targets={**project.targets, "armv7": taken})
    plan = make(narrowed)
    reasons = {skip.cell.id: skip.reason for skip in plan.skipped}
    assert reasons["armv7-one-float32"] == "armv7 takes int8 alone"
    assert reasons["armv7-two-float32"] == "too large for the board", "what is declared comes first"
    assert not [name for name in plan.jobs if "armv7" in name]


def test_variants_that_a_pipeline_leaves_out_are_no_cells(tmp_path: Path) -> None:
    project = _with_variants(tmp_path, "[float32, int8, int8_shift]")
    assert {cell.variant for cell in select_cells(project, Selection())} == {"float32", "int8", "int8_shift"}
    pipeline = project.pipeline.model_copy(update={"variants": ("int8_shift",)})
    narrowed = dataclasses.replace(project, pipeline=pipeline)
    assert {cell.variant for cell in select_cells(narrowed, Selection(only=("*-two-*",)))} == {"int8_shift"}


def test_a_pipeline_leaves_out_models_by_their_tags_whether_any_has_one_or_not(project: Project) -> None:
    one, two = project.models_file.models
    models = project.models_file.model_copy(update={"models": (one, two.model_copy(update={"tags": ("extended",)}))})
    pipeline = project.pipeline.model_copy(update={"without_tags": ("extended", "slow")})
    tagged = dataclasses.replace(project, pipeline=pipeline, models_file=models)
    assert {cell.model for cell in select_cells(tagged, Selection())} == {"one"}
    untagged = dataclasses.replace(project, pipeline=pipeline)
    assert {cell.model for cell in select_cells(untagged, Selection())} == {"one", "two"}


def test_each_quantised_variant_is_made_by_a_stage_of_its_own(tmp_path: Path) -> None:
    plan = make(_with_variants(tmp_path, "[float32, int8, int8_shift]"), Selection(only=("x86_64-two-*",)))
    made = {name: plan.jobs[f"compile:x86_64-two-{name}"].inputs for name in ("float32", "int8", "int8_shift")}
    assert made == {
        "float32": {"prepare": "prepare:two"},
        "int8": {"quantize": "quantize:two"},
        "int8_shift": {"quantize": "quantize_shift:two"},
    }


def test_a_budget_of_cycles_is_checked_again_for_its_own_target_alone(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    before = make(project).jobs
    two = project.models_file.models[1]
    checks = two.checks.model_copy(update={"cycles": {"x86_64": 1000}})
    models = (project.models_file.models[0], two.model_copy(update={"checks": checks, "skip": ()}))
    file = project.models_file.model_copy(update={"models": models})
    after = make(dataclasses.replace(project, models_file=file)).jobs
    assert after["check:x86_64-two-float32"].groups["budgets x86_64"] == {"cycles": 1000}
    assert after["check:x86_64-two-float32"].key != before["check:x86_64-two-float32"].key
    assert "budgets armv7" not in after["check:armv7-two-float32"].groups


def _with_variants(folder: Path, variants: str) -> Project:
    """Return the project with these variants of the second model."""
    write_project(folder)
    plain, data = (folder / "models.yaml").read_text(), "    data: [lines]"
    (folder / "models.yaml").write_text(plain.replace(data, f"    variants: {variants}\n{data}"))
    return load_project(
        models=folder / "models.yaml",
        toolchains=folder / "toolchains",
        pipeline=folder / "pipelines" / "default.yaml",
    )


def test_without_an_emulator_a_target_is_compiled_and_not_run(project: Project) -> None:
    boards = {**context().boards, "armv7": BoardAccess(parameters={}, exclusive=False, missing="no qemu-user")}
    plan = make(project, boards=boards)
    assert "bundle:armv7-one-float32" in plan.jobs
    assert "measure:armv7-one-float32" not in plan.jobs
    assert any(skip.stage == "measure" and skip.reason == "no qemu-user" for skip in plan.skipped)


def test_a_target_whose_compiler_is_not_here_is_skipped_with_what_to_type(project: Project) -> None:
    missing = BoardAccess(parameters={}, exclusive=False, unbuilt="no Python 3.10; ./inv setup")
    plan = make(project, boards={**context().boards, "armv7": missing})
    assert not [name for name in plan.jobs if "armv7" in name]
    assert [(skip.stage, skip.reason) for skip in plan.skipped if skip.cell.model == "one"] == [
        (None, "no Python 3.10; ./inv setup")
    ]


def test_stages_bring_what_they_need_and_nothing_more(project: Project) -> None:
    plan = make(project, Selection(only=("x86_64-one-*",), stages=("compile",)))
    assert list(plan.jobs) == ["fetch:shared-1.0", "prepare:one", "compile:x86_64-one-float32"]


def test_a_measurement_is_not_shared_between_boards(project: Project) -> None:
    here = make(project).jobs
    boards = {**context().boards, "x86_64": BoardAccess(parameters={"id": "other"}, exclusive=True)}
    there = make(project, boards=boards).jobs
    changed = {name for name in here if here[name].key != there[name].key}
    assert changed == {f"{stage}:x86_64-{model}-float32" for stage in ("measure", "check") for model in ("one", "two")}


def test_native_measurements_run_alone_and_emulated_ones_do_not(project: Project) -> None:
    jobs = make(project).jobs
    assert {name for name, job in jobs.items() if job.exclusive} == {
        "measure:x86_64-one-float32",
        "measure:x86_64-two-float32",
    }


def test_one_toolchain_changes_the_keys_of_its_own_cells_only(project: Project, tmp_path: Path) -> None:
    before = make(project).jobs
    after = make(write_project(tmp_path, cpu_of_armv7="cortex-a7")).jobs
    changed = {name for name in before if before[name].key != after[name].key}
    assert changed == {f"{stage}:armv7-one-float32" for stage in ("compile", "bundle", "measure", "check")}


def _put_all(plan: Plan, store: Store, wanted: Callable[[str], bool] = lambda name: True) -> None:
    for name, job in plan.jobs.items():
        if wanted(name):
            folder = store.root / "work" / name.replace(":", "-")
            folder.mkdir(parents=True)
            (folder / "file").write_text(name)
            store.put(key=job.key, job=name, folder=folder, document=job.document, groups=job.groups, seconds=1.0)


def test_a_second_plan_is_all_hits(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    assert {decision.choice for decision in find_stale(plan, store).values()} == {"run"}
    _put_all(plan, store)
    assert {decision.choice for decision in find_stale(plan, store).values()} == {"hit"}


def test_the_reason_says_what_changed_in_the_toolchain(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    _put_all(make(project), store)
    decisions = find_stale(make(write_project(tmp_path, cpu_of_armv7="cortex-a7")), store)
    assert decisions["compile:armv7-one-float32"].reason == "toolchain armv7 changed: code.cpu"
    assert decisions["bundle:armv7-one-float32"].reason == "input changed: compile"
    assert decisions["compile:x86_64-one-float32"].choice == "hit"


def test_what_nothing_asks_for_does_not_run(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    _put_all(plan, store, wanted=lambda name: not name.startswith(("fetch:", "prepare:")))
    decisions = find_stale(plan, store)
    assert decisions["fetch:shared-1.0"].choice == "unneeded"
    assert {decision.choice for name, decision in decisions.items() if name.startswith("check:")} == {"hit"}


def test_a_damaged_artifact_runs_again_and_says_so(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    _put_all(plan, store)
    artifact = store.read(plan.jobs["check:x86_64-one-float32"].key)
    assert artifact is not None
    path = store.file_path(artifact, "file")
    path.chmod(0o644)
    path.write_text("scribble")
    decisions = find_stale(plan, store)
    assert "damaged" in decisions["check:x86_64-one-float32"].reason
    assert [name for name, decision in decisions.items() if decision.choice == "run"] == ["check:x86_64-one-float32"]


def test_records_of_a_check_are_read_before_a_plan_calls_them_a_hit(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    _put_all(plan, store)
    artifact = store.read(plan.jobs["check:x86_64-one-float32"].key)
    assert artifact is not None
    path = store.file_path(artifact, "file")
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "damaged" in find_stale(plan, store)["check:x86_64-one-float32"].reason


def test_an_artifact_that_gc_took_is_said_to_be_gone(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    _put_all(plan, store)
    store.artifact_path(plan.jobs["check:x86_64-one-float32"].key).unlink()
    decision = find_stale(plan, store)["check:x86_64-one-float32"]
    assert (decision.choice, decision.reason) == ("run", "its artifact is gone")


def test_a_target_that_is_named_twice_counts_once(project: Project) -> None:
    cells = select_cells(project, Selection(targets=("armv7", "x86_64", "armv7")))
    assert len(cells) == len(set(cells)) == 4


def test_a_selection_that_leaves_nothing_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="nothing is left of 4 cells"):
        select_cells(project, Selection(only=("armv7-*",), skip=("armv7-one-*", "*-two-*")))


def test_measuring_again_runs_the_checks_again_too(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    plan = make(project)
    _put_all(plan, store)
    runs = [name for name, d in find_stale(plan, store, again=frozenset({"measure"})).items() if d.choice == "run"]
    assert len(runs) == 6
    assert {name.split(":")[0] for name in runs} == {"measure", "check"}


@pytest.mark.parametrize("stage", ["fetch", "c_library", "runner"])
def test_a_stage_that_is_asked_for_alone_runs_although_others_that_nobody_asked_for_use_it(
    project: Project, tmp_path: Path, stage: str
) -> None:
    plan = make(project, Selection(targets=("x86_64",), stages=(stage,)))
    choices = {name: decision.choice for name, decision in find_stale(plan, Store(tmp_path / "store")).items()}
    assert {name for name, choice in choices.items() if choice == "run"} == plan.wanted
    assert {name.partition(":")[0] for name in plan.wanted} == {stage}


def test_what_a_job_made_outside_of_the_store_is_made_again_when_it_is_gone_and_needed(
    project: Project, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    plan = make(project, Selection(stages=("bundle",)))
    _put_all(plan, store)

    def lost(job: PlannedJob) -> str:
        return "its cache is empty" if job.id == "c_library:armv7" else ""

    assert {decision.choice for decision in find_stale(plan, store, lost=lost).values()} == {"hit"}, "nothing links"
    artifact = store.read(plan.jobs["bundle:armv7-one-float32"].key)
    assert artifact is not None
    store.drop(artifact)
    found = find_stale(plan, store, lost=lost)
    ran = {name: decision for name, decision in found.items() if decision.choice == "run"}
    assert set(ran) == {"c_library:armv7", "bundle:armv7-one-float32"}
    assert ran["c_library:armv7"].reason == "its cache is empty"
    assert ran["c_library:armv7"].is_forced
    assert not ran["bundle:armv7-one-float32"].is_forced


def test_labels_of_sources_are_safe_as_file_names_and_differ() -> None:
    labels = [
        source_label(Package(package="a-b==1.0", sha256="a" * 64)),
        source_label(UrlSource(url="https://example.org/x/y%20z.onnx", sha256="b" * 64)),
        source_label(FileSource(file="models/a.onnx")),
        source_label(FileSource(file="other/a.onnx")),
    ]
    assert len(set(labels)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", label) for label in labels)


def test_int8_is_quantised_once_for_all_targets_and_float32_not_at_all(project: Project) -> None:
    first, second = project.models_file.models
    models_file = project.models_file.model_copy(
        update={"models": (first.model_copy(update={"variants": ("float32", "int8")}), second)}
    )
    plan = make(dataclasses.replace(project, models_file=models_file))
    assert [name for name in plan.jobs if name.startswith("quantize:")] == ["quantize:one"]
    assert plan.jobs["compile:armv7-one-int8"].inputs == {"quantize": "quantize:one"}
    assert plan.jobs["compile:x86_64-one-int8"].inputs == {"quantize": "quantize:one"}
    assert plan.jobs["compile:x86_64-one-float32"].inputs == {"prepare": "prepare:one"}
    assert plan.jobs["check:armv7-one-int8"].inputs["compiled"] == "measure:x86_64-one-int8"
    assert "compiled" not in plan.jobs["check:x86_64-one-int8"].inputs
