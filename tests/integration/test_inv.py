"""The script `inv`, run for real in a small project whose lock names one small wheel that stands beside it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import invoke
import pytest

from crossfarm.util.paths import HOME
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

INV = HOME / "inv"
MAIN = "import sys; print(sys.argv[1:], sys.flags.dont_write_bytecode)\n"


def make_wheel(folder: Path, version: str) -> str:
    """Make a wheel named invoke that prints its arguments, and return its sha256."""
    name = f"invoke-{version}"
    files = {
        "invoke/__init__.py": "",
        "invoke/__main__.py": MAIN,
        f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: invoke\nVersion: {version}\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(inside, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{inside},sha256={digest},{len(text)}\n"
        wheel.writestr(f"{name}.dist-info/RECORD", record + f"{name}.dist-info/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Project:
    """A folder with `inv` and a lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a project"
        self.wheels = folder / "wheels"
        self.folder.mkdir()
        self.wheels.mkdir()
        shutil.copy(INV, self.folder)
        # The program that inv starts; behind it stands the wheel of the lock, which tells what it was given.
        program = self.folder / "crossfarm" / "cli" / "program.py"
        program.parent.mkdir(parents=True)
        program.write_text("import invoke.__main__\n")
        self.environment = {
            "PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def digest(self) -> Path:
        return self.folder / ".venv" / ".lock-digest"

    def lock(self, version: str, sha256: str | None = None) -> None:
        known = sha256 or make_wheel(self.wheels, version)
        (self.folder / "requirements.lock").write_text(f"invoke=={version} --hash=sha256:{known}\n")
        self.terminal()

    def terminal(self, text: str = "") -> None:
        path = self.folder / "requirements" / "terminal.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / "inv", *arguments],
            cwd="/",
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def inv(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            output, errors = process.communicate()
        return process.returncode, output, errors

    def script(self, name: str, text: str) -> None:
        """Put a small program before all others on PATH."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        if str(folder) not in self.environment["PATH"]:
            self.environment["PATH"] = f"{folder}:{self.environment['PATH']}"

    def without_ensurepip(self) -> None:
        """Let Python be one that Debian splits: there, but without ensurepip until python3-venv comes."""
        python = Path(sys.base_prefix) / "bin" / "python3.11"
        self.script(
            "python3.11",
            f'if [ "$2" = "import ensurepip" ] && ! [ -e "{self.folder}/installed" ]; then exit 1; fi\n'
            f'exec "{python}" "$@"',
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.lock("1.0")
    return made


@pytest.fixture(scope="module")
def used_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose environment is made already."""
    made = Project(tmp_path_factory.mktemp("used"))
    made.lock("1.0")
    code, _, errors = made.inv()
    assert (code, errors.count("\n")) == (0, 1), errors
    assert "making .venv from requirements.lock" in errors
    return made


def test_later_uses_only_hand_the_arguments_on(used_project: Project) -> None:
    before = used_project.digest.stat().st_mtime_ns
    output = f"['--search-root', {str(used_project.folder)!r}, 'setup', 'a b', '--flag'] 0\n"
    assert used_project.inv("setup", "a b", "--flag") == (0, output, "")
    assert used_project.digest.stat().st_mtime_ns == before


def test_a_changed_lock_makes_it_anew(project: Project) -> None:
    assert project.inv()[0] == 0
    project.lock("2.0")
    code, _, errors = project.inv()
    assert code == 0
    assert "making .venv" in errors
    assert list((project.folder / ".venv" / "lib").glob("python3.11/site-packages/invoke-*")) == [
        project.folder / ".venv/lib/python3.11/site-packages/invoke-2.0.dist-info"
    ]


def test_what_only_a_terminal_needs_is_installed_too_and_makes_it_anew_when_it_changes(project: Project) -> None:
    assert project.inv()[0] == 0
    (wheel,) = project.wheels.iterdir()
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    project.terminal(f"# as in the lock, which may name the same package\ninvoke==1.0 --hash=sha256:{sha256}\n")
    code, _, errors = project.inv()
    assert code == 0, errors
    assert "making .venv" in errors
    project.terminal(f"not-there==1.0 --hash=sha256:{'0' * 64}\n")
    code, _, errors = project.inv()
    assert code == 3
    assert "not-there==1.0" in errors


def test_a_project_that_was_copied_elsewhere_makes_it_anew(project: Project, used_project: Project) -> None:
    shutil.copytree(used_project.folder, project.folder, symlinks=True, dirs_exist_ok=True)
    project.environment["PIP_FIND_LINKS"] = str(used_project.wheels)
    code, output, errors = project.inv()
    assert code == 0
    assert "making .venv" in errors
    assert str(project.folder) in output


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(project: Project) -> None:
    project.lock("1.0", sha256="0" * 64)
    code, output, errors = project.inv()
    assert (code, output) == (3, "")
    assert "DO NOT MATCH THE HASHES" in errors
    assert ".venv could not be made" in errors
    assert not (project.folder / ".venv").exists()


def test_two_at_once_make_one_and_both_use_it(project: Project) -> None:
    with project.start("one") as first, project.start("two") as second:
        (one, first_errors), (two, second_errors) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "'one'" in one
    assert "'two'" in two
    assert (first_errors + second_errors).count("making .venv") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_an_ended_inv_left_is_not_trusted(project: Project, number: signal.Signals) -> None:
    with project.start() as process:
        wait_until((project.folder / ".venv" / "bin").exists, process=process)
        os.killpg(process.pid, number)
        process.communicate()
    assert process.returncode != 0
    assert not project.digest.exists()
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert not (project.folder / ".venv").exists()
    code, _, errors = project.inv()
    assert code == 0
    assert "making .venv" in errors


def test_no_python_of_the_right_version_is_told(project: Project) -> None:
    for name in ("python3.11", "python3", "python"):
        project.script(name, "exit 1")
    code, _, errors = project.inv()
    assert code == 3
    assert "Python 3.11 is needed" in errors
    assert "apt-get install" in errors
    assert not (project.folder / ".venv").exists()


def test_python3_is_taken_where_python3_11_is_not_on_path(project: Project) -> None:
    project.script("python3.11", "exit 127")
    project.script("python3", f'exec "{Path(sys.base_prefix) / "bin" / "python3.11"}" "$@"')
    assert project.inv()[0] == 0


def test_a_user_is_told_what_to_type_when_ensurepip_is_missing(project: Project) -> None:
    project.without_ensurepip()
    project.script("id", "echo 1000")
    code, _, errors = project.inv()
    assert code == 3
    assert "type: sudo apt-get install python3-venv" in errors
    assert not (project.folder / ".venv").exists()


def test_root_gets_ensurepip_installed(project: Project) -> None:
    project.without_ensurepip()
    project.script("id", "echo 0")
    project.script("apt-get", f'case "$*" in *"install -y python3-venv") touch "{project.folder}/installed" ;; esac')
    code, _, errors = project.inv()
    assert code == 0, errors
    assert "installing python3-venv" in errors


def test_the_script_costs_next_to_nothing_when_all_is_there(used_project: Project) -> None:
    # The environment's Python does nothing, so that what is left is the script's own time.
    python = used_project.folder / ".venv" / "bin" / "python"
    real = python.readlink()
    python.unlink()
    python.symlink_to("/bin/true")
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        assert used_project.inv()[0] == 0
        best = min(best, time.perf_counter() - began)
    python.unlink()
    python.symlink_to(real)
    assert best < 0.030, "15 ms are the goal on a quiet machine"


def test_a_plain_invoke_of_another_environment_hands_over_to_inv(tmp_path: Path) -> None:
    """It knows invoke and nothing else of what is needed here; what is typed and the exit code are the same."""
    (tmp_path / "invoke").symlink_to(Path(invoke.__file__).parent, target_is_directory=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    python = Path(sys.base_prefix) / "bin" / "python3.11"

    def said(*command: str | Path) -> tuple[int, str, str]:
        done = subprocess.run(
            command, cwd=HOME, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        return done.returncode, done.stdout, done.stderr

    for typed in (("--list",), ("--help", "pipeline"), ("pipelin",), ("pipeline", "--models", "nothing.yaml")):
        assert said(python, "-m", "invoke", *typed) == said(HOME / "inv", *typed)
    code, _, errors = said(python, "-m", "invoke", "pipeline", "--models", "nothing.yaml")
    assert code == 2 and "nothing.yaml" in errors


def test_completion_works_for_inv_where_it_stands() -> None:
    """In a real bash, which asks the program that is being typed."""
    script = """
        source <(./inv --print-completion-script bash)
        complete -p ./inv inv
        COMP_WORDS=(./inv pipe) COMP_CWORD=1; _complete_inv ./inv pipe ./inv; echo "${COMPREPLY[@]}"
        COMP_WORDS=(./inv pipeline --mod) COMP_CWORD=2; _complete_inv ./inv --mod pipeline; echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=HOME, capture_output=True, text=True, check=False, timeout=300)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o default -F _complete_inv ./inv",
        "complete -o default -F _complete_inv inv",
        "pipeline",
        "--models",
    ]
