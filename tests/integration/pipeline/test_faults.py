"""What goes wrong while a pipeline runs: nothing is lost, nothing half-written is read, no traceback is shown."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest

from crossfarm.config.cell import Cell
from tests.integration.pipeline.waiting import Farm, compiles, jobs_below
from tests.waiting import stretched, wait_until

pytestmark = pytest.mark.integration


def _workers(tag: str) -> list[int]:
    """Return the worker processes that carry a tag in their environment; they lead sessions of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_tagged = f"FARM_TEST={tag}".encode() in (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if is_tagged and b"crossfarm.engines.worker" in words:
                found.append(int(entry.name))
    return found


def test_a_run_ends_well_and_a_second_one_compiles_nothing(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    first = farm.run()
    assert first.code == 0, first.output
    assert farm.states()["compile:x86_64-adder-float32"] == "run"
    second = farm.run()
    assert second.code == 0
    assert set(farm.states().values()) == {"hit"}
    assert "up to date" in second.output
    assert ET.parse(farm.out / "junit.xml").getroot().get("failures") == "0"  # noqa: S314


def test_the_plan_says_what_the_next_run_does(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    for _ in range(2):
        planned = farm.run(task="plan").output.splitlines()
        said = {line.split()[1]: line.split()[0] for line in planned if line.startswith(("run", "hit"))}
        assert farm.run().code == 0
        assert farm.states() == said


def test_a_changed_model_file_runs_again_and_the_plan_says_why(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    assert farm.run().code == 0
    small_model.graph.node[1].op_type = "Abs"
    farm.add("adder", small_model)
    planned = farm.run(task="plan").output
    assert "content changed" in planned
    assert "input changed: prepare" in planned


def test_three_targets_agree_with_the_reference(farm: Farm, small_model: onnx.ModelProto) -> None:
    if shutil.which("qemu-arm-static") is None and shutil.which("qemu-arm") is None:
        pytest.skip("qemu-user is not installed (./inv setup installs it): ARM programs cannot be run here")
    farm.add("adder", small_model)
    farm.set_targets("x86_64", "aarch64", "armv7")
    ended = farm.run()
    assert ended.code == 0, ended.output
    checks = [record for record in farm.records("check") if record["name"].startswith("accuracy.output")]
    assert {Cell.parse(record["cell"]).target for record in checks} == {"x86_64", "aarch64", "armv7"}
    assert {record["status"] for record in checks} == {"passed"}


def test_a_file_that_is_not_onnx_fails_its_own_cells_only(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    farm.add("noise", b"this is no model")
    ended = farm.run()
    assert ended.code == 1
    states = farm.states()
    assert states["prepare:noise"] == "failed"
    assert states["compile:x86_64-noise-float32"] == "cancelled"
    assert states["check:x86_64-adder-float32"] == "run"
    row = next(record for record in farm.records() if record["job"] == "prepare:noise")
    assert "not" in row["cause"]
    assert "ONNX" in row["cause"]
    assert Path(row["log"]).is_file()
    assert row["command"].startswith("./inv pipeline")


def test_a_corrupted_object_of_the_store_is_told_and_made_again(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    assert farm.run().code == 0
    for path in (farm.store / "objects").glob("??/*"):
        path.chmod(0o644)
        with path.open("ab") as stream:
            stream.write(b"rot")
    planned = farm.run(task="plan").output
    assert "damaged" in planned
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert "run" in farm.states().values()
    assert farm.run().code == 0
    assert set(farm.states().values()) == {"hit"}


def test_ctrl_c_during_compile_keeps_what_is_done_and_writes_the_reports(
    farm: Farm, small_model: onnx.ModelProto, long_model: onnx.ModelProto
) -> None:
    farm.add("adder", small_model)
    farm.add("long", long_model)
    process = farm.start()
    wait_until(lambda: any((farm.store / "work").glob("*/compile-x86_64-long*/job.json")) and jobs_below(process.pid))
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert time.monotonic() - started < stretched(10)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "interrupted" in output
    assert farm.states()["compile:x86_64-long-float32"] == "cancelled"
    assert "interrupted" in (farm.out / "summary.md").read_text()
    assert ET.parse(farm.out / "junit.xml") is not None  # noqa: S314
    assert not list((farm.store / "work").iterdir())
    ended = farm.run()
    assert ended.code == 0, ended.output


def test_term_does_what_ctrl_c_does(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    process = farm.start()
    wait_until(lambda: compiles(farm))
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert (farm.out / "junit.xml").is_file()


def test_kill_9_during_compile_leaves_no_process_and_the_next_run_goes_on(
    farm: Farm, long_model: onnx.ModelProto
) -> None:
    farm.add("long", long_model)
    tag = farm.environment["FARM_TEST"] = str(farm.folder)
    process = farm.start("--jobs", "1")
    wait_until(lambda: compiles(farm) and jobs_below(process.pid))
    assert _workers(tag)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not _workers(tag), seconds=15)
    ended = farm.run()
    assert ended.code == 0, ended.output
    assert farm.states()["prepare:long"] == "hit"
    assert farm.states()["compile:x86_64-long-float32"] == "run"


def test_two_runs_at_once_on_one_store_both_end_well_and_make_each_artifact_once(
    farm: Farm, small_model: onnx.ModelProto, long_model: onnx.ModelProto
) -> None:
    farm.add("adder", small_model)
    farm.add("long", long_model)
    other_out = farm.folder / "other"
    first = farm.start()
    second = farm.start("--out", str(other_out))
    outputs = [first.communicate(timeout=200)[0], second.communicate(timeout=200)[0]]
    assert first.returncode == 0, outputs[0]
    assert second.returncode == 0, outputs[1]
    states = [farm.states()]
    farm.out = other_out
    states.append(farm.states())
    for job in states[0]:
        assert sorted([states[0][job], states[1][job]]) == ["hit", "run"], job


def test_without_qemu_arm_is_compiled_and_not_run(farm: Farm, small_model: onnx.ModelProto, tmp_path: Path) -> None:
    farm.add("adder", small_model)
    farm.set_targets("x86_64", "armv7")
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("git", "sh", "env"):
        found = shutil.which(tool)
        if found:
            (bare / tool).symlink_to(found)
    farm.environment["PATH"] = str(bare)
    ended = farm.run()
    assert ended.code == 0, ended.output
    states = farm.states()
    assert states["bundle:armv7-adder-float32"] == "run"
    assert states["measure:armv7-adder-float32"] == "skipped"
    assert states["check:x86_64-adder-float32"] == "run"
    assert "qemu-arm" in ended.output


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(farm: Farm, small_model: onnx.ModelProto) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    farm.add("adder", small_model)
    small = farm.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a tmpfs be mounted")
    farm.store = small / "store"
    try:
        ended = farm.run()
        assert ended.code == 3, ended.output
        assert re.search("disk (is )?full|No space left", ended.output), ended.output
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        again = farm.run()
        assert again.code == 0, again.output
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_fail_fast_stops_at_the_first_failure(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("noise", b"this is no model")
    farm.add("adder", small_model)
    ended = farm.run("--fail-fast", "--jobs", "1")
    assert ended.code == 1
    assert "cancelled" in farm.states().values()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "x86_64-addr-float32"), "perhaps you meant 'x86_64-adder-float32'"),
        (("--targets", "armv"), "perhaps you meant 'armv"),
        (("--stages", "compil"), "perhaps you meant 'compile'"),
        (("--jobs", "-1"), "--jobs -1"),
    ],
)
def test_a_wrong_option_is_exit_code_2_and_one_message(
    farm: Farm, small_model: onnx.ModelProto, arguments: tuple[str, ...], words: str
) -> None:
    farm.add("adder", small_model)
    ended = farm.run(*arguments)
    assert ended.code == 2, ended.output
    assert words in ended.output
