"""The stage `measure` with programs that are small scripts: what they are told, and how each way to end is reported."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.result import RunnerResult
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import Target, target_with
from crossfarm.errors import BoardError, BundleError, CrossfarmError, ModelError
from crossfarm.stages.job import Job
from crossfarm.stages.measure import stage as measure
from crossfarm.stages.measure.artifact import BoardFile, read_file
from crossfarm.stages.protocol import Subject
from crossfarm.util import sandbox

RECORD = """
said="$0 $*"
while [ $# -gt 0 ]; do
  case "$1" in
    --result) echo "$said" > "$2" ;;
    --profile) echo "profiled: $said" > "$2" ;;
    --outputs) echo x > "$2/0.bin" ;;
  esac
  shift
done"""
MANIFEST = {
    "model": "m",
    "target": "t",
    "variant": "float32",
    "cell": "t-m-float32",
    "identity": "0" * 64,
    "cases": 1,
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1]}],
}


def _target(**fields: Any) -> Target:
    return target_with(LlvmCode).model_validate(
        {
            "name": "t",
            "machine": [platform.machine()],
            "code": {"triple": "x86_64-linux-gnu", "cpu": "x86-64"},
            "compiler": {"kind": "zig", "target": "x86_64-linux-gnu.2.17"},
            **fields,
        }
    )


def _job(tmp_path: Path, script: str, *, target: Target | None = None, **settings: Any) -> Job:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps(MANIFEST))
    (bundle / "program").write_text(f"#!/bin/sh\n{script}\n")
    (bundle / "program").chmod(0o755)
    pipeline = Pipeline.model_validate({"name": "p", "targets": ["t"], "measure": settings})
    needs = measure.needs(Subject(pipeline=pipeline, target=target or _target(), variant="float32"))
    assert set(needs.inputs) == {"bundle"}
    output = tmp_path / "out"
    output.mkdir()
    parameters = {**json.loads(json.dumps(needs.parameters)), "board": {"id": "host", "fingerprint": {}}}
    return Job(
        id="measure:t-m-float32",
        stage="measure",
        key="0" * 64,
        parameters=parameters,
        inputs={"bundle": bundle},
        output=output,
        root=tmp_path,
    )


def test_a_native_run_is_timed_on_silicon_with_all_its_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFARM_GIT_COMMIT", "abc123")
    job = _job(tmp_path, RECORD, warmup=7, repeat=40, threads=2)
    measure.run(job)
    board = read_file(BoardFile, job.output / "measure.json")
    assert board.git_commit == "abc123"
    assert (board.board, board.timing, board.emulator) == ("host", "silicon", None)
    assert board.machine == platform.machine()
    assert board.sandbox == sandbox.available()
    said = (job.output / "result.json").read_text()
    assert re.search(r"/bundle/program \S*/bundle --threads 2 --warmup 7 --repeat 40 --outputs \S*/out/outputs", said)
    assert (job.output / "outputs/0.bin").read_text() == "x\n"


def test_an_emulated_run_is_marked_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "qemu-z80").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo qemu-z80 version 7.2 && exit\nshift\nexec "$@"\n'
    )
    (tools / "qemu-z80").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    target = _target(machine=["z80"], emulator={"command": ["qemu-z80", "-strict"]})
    job = _job(tmp_path, RECORD, target=target, warmup=7, repeat=40, emulated_repeat=3)
    measure.run(job)
    board = read_file(BoardFile, job.output / "measure.json")
    assert (board.timing, board.emulator) == ("emulated", "qemu-z80 7.2")
    assert "--warmup 1 --repeat 3" in (job.output / "result.json").read_text()


def test_calls_are_timed_in_a_few_runs_of_their_own_only_where_a_function_has_no_schedule(tmp_path: Path) -> None:
    job = _job(tmp_path, RECORD, repeat=40, threads=2)
    manifest = job.inputs["bundle"] / "manifest.json"
    measure.run(job)
    assert not (job.output / "profile.json").exists()
    manifest.write_text(json.dumps({**MANIFEST, "unscheduled": ["argmax"]}))
    shutil.rmtree(job.output)
    job.output.mkdir()
    measure.run(job)
    plain, profiled = (job.output / "result.json").read_text(), (job.output / "profile.json").read_text()
    assert "--profile" not in plain and " --repeat 40 " in plain
    assert " --threads 2 --warmup 1 --repeat 5 --cases 1 --no-verify " in profiled
    assert profiled.startswith("profiled: ")


def test_a_program_that_lost_its_right_to_run_runs_all_the_same(tmp_path: Path) -> None:
    job = _job(tmp_path, RECORD)
    (job.inputs["bundle"] / "program").chmod(0o644)
    measure.run(job)
    assert (job.output / "measure.json").is_file()


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("exit 2", BundleError, "did not understand its command line: it said nothing"),
        ("echo weights.bin is truncated >&2; exit 3", BundleError, "refused its bundle: weights.bin is truncated"),
        ("echo fused_conv2d: wrong shape >&2; exit 4", ModelError, "failed in the model's code: fused_conv2d"),
        ("echo No space left >&2; exit 5", BoardError, "was failed by the machine: No space left"),
        ("exit 77", BoardError, "ended with exit code 77"),
        ("kill -SEGV $$", BoardError, "killed by SIGSEGV"),
    ],
)
def test_each_way_to_fail_is_told_apart(tmp_path: Path, script: str, kind: type[CrossfarmError], message: str) -> None:
    job = _job(tmp_path, script)
    with pytest.raises(kind, match=message):
        measure.run(job)
    assert not (job.output / "measure.json").exists()


def test_a_bundle_without_program_or_manifest_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, "exit 0")
    (job.inputs["bundle"] / "program").unlink()
    with pytest.raises(BundleError, match="the bundle has no program"):
        measure.run(job)
    (job.inputs["bundle"] / "manifest.json").write_text('{"model": "m"}')
    with pytest.raises(BundleError, match=r"manifest.json is damaged at target: Field required"):
        measure.run(job)
    (job.inputs["bundle"] / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest.json cannot be read: No such file"):
        measure.run(job)


def test_the_data_limit_of_a_pipeline_does_not_shape_a_measurement() -> None:
    groups = [
        measure.needs(
            Subject(
                pipeline=Pipeline.model_validate({"name": "p", "targets": ["t"], "measure": {"data_limit": limit}}),
                target=_target(),
            )
        ).parameters
        for limit in (None, 3)
    ]
    assert groups[0] == groups[1]


def test_a_result_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"format": 2}')
    with pytest.raises(BundleError, match=r"result.json is damaged at format"):
        read_file(RunnerResult, tmp_path / "result.json")


def test_a_model_shapes_no_measurement() -> None:
    entry = {"name": "m", "source": {"file": "m"}, "licence": "MIT", "inputs": [{"name": "x", "shape": [1]}]}
    subjects = [
        Subject(
            pipeline=Pipeline.model_validate({"name": "p", "targets": ["t"]}),
            target=_target(),
            model=Model.model_validate({**entry, "seed": seed}),
        )
        for seed in (0, 1)
    ]
    assert measure.needs(subjects[0]) == measure.needs(subjects[1])


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1", "9223372036854775808", "1" + "0" * 5000, "1e999", "NaN"])
def test_a_number_that_no_clock_gives_is_refused(tmp_path: Path, number: str) -> None:
    names = ("threads", "cases", "warmup", "load_ns", "verify_ns", "arena_bytes", "weights_bytes", "program_bytes")
    good = dict.fromkeys((*names, "peak_rss_bytes", "workspace_peak_bytes"), 1)
    texts = {"model": "m", "target": "t", "identity": "0" * 64}
    document = {"format": 1, **texts, **good, "outputs": [], "latency_ns": [5]}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    assert read_file(RunnerResult, path).latency_ns == (5,)
    path.write_text(json.dumps(document).replace("[5]", f"[{number}]"))
    with pytest.raises(BundleError, match=r"result\.json is damaged at"):
        read_file(RunnerResult, path)


def test_what_a_hostile_program_leaves_is_refused_or_left_behind(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    find = 'while [ "$1" != --outputs ]; do shift; done; '
    job = _job(tmp_path, f"{find} ln -sf {secret} $2/0.bin; ln -s {secret} $2/1.bin; mkdir -p $2/a/b/c; exit 0")
    with contextlib.suppress(BundleError):  # where nothing shuts it in, it could make the link, which is refused
        measure.run(job)
    assert not [path for path in job.output.rglob("*") if path.is_symlink() or path.name in ("0.bin", "1.bin", "a")]
