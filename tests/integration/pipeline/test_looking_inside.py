"""`./inv shell` and `./inv reproduce` with real images."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any

import onnx
import pytest

from crossfarm.util.docker import find_daemon
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

Farm = Any
"""The class of conftest.py, which pytest does not let be imported."""


def _shell(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "invoke", "--search-root", str(HOME), "shell", "--target", "x86_64", *arguments]


@pytest.fixture
def contained(farm: Farm) -> Farm:
    problem = find_daemon().problem
    if problem:
        pytest.skip(problem)
    farm.engine = "container"
    return farm


def test_a_shell_has_the_images_tools_the_store_to_look_at_and_no_network(contained: Farm) -> None:
    script = "id -u; ls /store; touch /store/x; touch /project/x; ls /sys/class/net; python3 -c 'import tvm'; exit 7"
    (contained.store / "objects").mkdir(parents=True)
    done = subprocess.run(
        _shell("--store", str(contained.store)),
        input=script, capture_output=True, text=True, cwd=HOME, timeout=300, check=False,
    )  # fmt: skip
    lines = done.stdout.split()
    assert str(os.getuid()) in lines, done.stdout + done.stderr
    assert "objects" in lines
    assert lines[-1] == "lo"
    assert done.stderr.count("Read-only file system") == 2
    assert done.returncode == 7
    assert not (contained.store / "x").exists()


def test_a_command_runs_in_place_of_a_shell_and_its_code_is_kept(contained: Farm) -> None:
    done = subprocess.run(
        _shell("--store", str(contained.store), "--command", "python3 -m ziglang version; exit 3"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=HOME, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.strip().startswith("0."), done.stdout + done.stderr
    assert done.returncode == 3


def test_a_misspelt_target_gets_the_nearest_name(contained: Farm) -> None:
    command = [word.replace("x86_64", "arnv7") for word in _shell()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, timeout=60, check=False)
    assert done.returncode == 2
    assert "perhaps you meant 'armv7'" in done.stderr


def test_on_a_terminal_the_shell_has_one_too(contained: Farm) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        _shell("--store", str(contained.store)), stdin=theirs, stdout=theirs, stderr=theirs, cwd=HOME
    ) as process:
        os.close(theirs)
        said = b""
        deadline = time.monotonic() + 60
        is_typed = False
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    said += os.read(ours, 4096)
                except OSError:
                    break
            if (b"$ " in said or b"# " in said) and not is_typed:
                os.write(ours, b"tty; stty size; exit\n")
                is_typed = True
        if not is_typed:
            process.kill()
        assert process.wait(timeout=20) == 0, said
    os.close(ours)
    assert b"/dev/pts/" in said


def test_a_cell_that_is_reproduced_has_the_stores_bytes(contained: Farm, small_model: onnx.ModelProto) -> None:
    contained.add("adder", small_model)
    first = contained.run("x86_64-adder-float32", task="reproduce")
    assert first.code == 0, first.output
    assert first.output.count("the store has none to compare") == 7
    assert contained.run("--stages", "bundle,interfaces").code == 0
    again = contained.run("x86_64-adder-float32", task="reproduce")
    assert again.code == 0, again.output
    assert again.output.count("the same as in the store") == 6
    assert "compile:x86_64-adder-float32: runs in crossfarm-x86_64:" in again.output


def test_a_file_that_differs_from_the_stores_is_told(contained: Farm, small_model: onnx.ModelProto) -> None:
    contained.add("adder", small_model)
    contained.engine = "local"
    assert contained.run("--stages", "compile").code == 0
    (manifest,) = (path for path in (contained.store / "artifacts").glob("??/*") if '"compile:' in path.read_text())
    content = json.loads(manifest.read_text())
    for file in content["files"]:
        if file[0] == "model.o":
            file[1] = "0" * 64
    manifest.write_text(json.dumps(content))
    ended = contained.run("x86_64-adder-float32", task="reproduce")
    assert ended.code == 1, ended.output
    assert "model.o differs (sha256 000000000000 in the store" in ended.output


def test_a_job_that_fails_shows_its_log_and_its_cause(contained: Farm) -> None:
    contained.add("broken", b"no model")
    done = subprocess.run(
        contained.command("x86_64-broken-float32", task="reproduce"),
        capture_output=True, text=True, env=contained.variables(), cwd=HOME, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "prepare:broken: failed after" in done.stdout
    assert "ModelError" in done.stdout
