"""setup and doctor, with a PATH of real small programs that stand in for apt-get, sudo and pip."""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_project, load_targets
from crossfarm.config.project import Project
from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE, ToolError
from crossfarm.setup import install
from crossfarm.setup import requirements as installation
from crossfarm.setup.requirement import Requirement
from crossfarm.setup.requirements import requirements, run_doctor, run_setup
from crossfarm.util import sandbox
from crossfarm.util.console import Console
from crossfarm.util.paths import HOME

MODELS = """
models:
  - name: torch_model
    format: torch
    licence: MIT
    source: {factory: "package.module:build"}
    inputs: [{name: x, shape: [1]}]
  - name: onnx_model
    licence: MIT
    source: {package: some-package==1.0, path: model.onnx, sha256: %s}
    inputs: [{name: x, shape: [1]}]
""" % ("a" * 64)
TOOLCHAIN = """
name: pdp11
machine: [pdp11]
code: {triple: s390x-linux-gnu, cpu: generic}
compiler: {kind: zig, target: pdp11-linux-gnu.2.17}
emulator: {command: [emulate-pdp11, -L, "%s"], package: pdp11-emulator, library_package: libc6-pdp11-cross}
"""
HERE = f"pytest=={importlib.metadata.version('pytest')}\n"


class Machine:
    """A machine with nothing on its PATH but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.library = folder / "sysroot"
        self.calls = folder / "calls"
        for made in (self.bin, folder / "toolchains", folder / "requirements"):
            made.mkdir()
        (folder / "models.yaml").write_text(MODELS)
        (folder / "toolchains" / "pdp11.yaml").write_text(TOOLCHAIN % self.library)
        (folder / "requirements.lock").write_text(HERE)
        (folder / "requirements" / "torch.txt").write_text(f"# made by hand\n{HERE}    # via torch\n")
        (folder / "requirements" / "torch-build.txt").write_text(HERE)
        (folder / "requirements" / "test.txt").write_text(HERE)

    def project(self, *models: str) -> Project:
        pipeline = self.folder / "some.yaml"
        pipeline.write_text(f"name: some\nmodels: [{', '.join(models)}]\ntargets: [pdp11]\n")
        return load_project(
            models=self.folder / "models.yaml", toolchains=self.folder / "toolchains", pipeline=pipeline
        )

    def script(self, name: str, text: str = "") -> Path:
        """Put a program on PATH that notes how it was called."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{text}\n')
        path.chmod(0o755)
        return path

    def apt_get(self) -> None:
        """Put an apt-get on PATH that brings the emulator and the C library."""
        emulator = self.bin / "emulate-pdp11"
        self.script(
            "apt-get",
            f'case "$*" in *" install "*) echo "#!/bin/sh" >"{emulator}"; /bin/chmod 755 "{emulator}"\n'
            f'/bin/mkdir -p "{self.library}";; esac',
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def setup(self, *models: str, yes: bool = False, is_root: bool = True) -> tuple[int, list[str]]:
        stream = io.StringIO()
        code = run_setup(
            self.project(*models),
            yes=yes,
            tests=False,
            console=Console(stream, interactive=False),
            is_root=is_root,
            home=self.folder,
        )
        return code, stream.getvalue().splitlines()

    def doctor(self, *models: str) -> tuple[int, str]:
        stream = io.StringIO()
        code = run_doctor(self.project(*models), console=Console(stream, interactive=False), home=self.folder)
        return code, stream.getvalue()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setattr(install, "_SECONDS_BETWEEN_TRIES", 0.0)
    monkeypatch.setattr(sandbox, "available", lambda: "bubblewrap")
    monkeypatch.setattr(sandbox, "has_bubblewrap", lambda: True)
    return made


def test_setup_installs_what_is_missing_and_the_second_time_does_nothing(machine: Machine) -> None:
    machine.apt_get()
    code, lines = machine.setup("onnx_model")
    assert (code, lines) == (
        EXIT_GOOD,
        [
            "setup: installing pdp11-emulator libc6-pdp11-cross with apt-get",
            "setup: done, installed a way to run pdp11",
        ],
    )
    assert machine.called() == [
        "apt-get -q -o DPkg::Lock::Timeout=300 update",
        "apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends pdp11-emulator libc6-pdp11-cross",
    ]
    code, lines = machine.setup("onnx_model")
    assert (code, lines) == (EXIT_GOOD, ["setup: everything is there (4 things looked at)"])
    assert len(machine.called()) == 2


def test_a_user_gets_one_message_with_the_command_to_type(machine: Machine) -> None:
    machine.apt_get()
    machine.script("sudo")
    with pytest.raises(ToolError) as caught:
        machine.setup("onnx_model", is_root=False)
    assert "sudo apt-get update && sudo apt-get install -y pdp11-emulator libc6-pdp11-cross\n" in str(caught.value)
    assert "pdp11 is compiled, not run" in str(caught.value)
    assert "--yes" in str(caught.value)
    assert caught.value.exit_code == EXIT_INFRASTRUCTURE
    assert machine.called() == []


def test_a_user_who_says_yes_gets_it_installed_with_sudo(machine: Machine) -> None:
    machine.apt_get()
    machine.script("sudo", '[ "$1 $2" = "env DEBIAN_FRONTEND=noninteractive" ] && shift 2 && exec "$@"')
    code, lines = machine.setup("onnx_model", yes=True, is_root=False)
    assert code == EXIT_GOOD
    assert "with sudo apt-get" in lines[0]
    assert machine.called()[0].startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get -q")


def test_a_failing_installer_is_tried_thrice_and_its_last_words_are_told(machine: Machine) -> None:
    machine.script("apt-get", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; echo no route >&2; exit 100")
    with pytest.raises(ToolError) as caught:
        machine.setup("onnx_model")
    assert machine.called() == ["apt-get -q -o DPkg::Lock::Timeout=300 update"] * 3
    message = str(caught.value)
    assert "update ended with exit code 100" in message
    assert "    no route\n" in message
    assert "line 3\n" not in message
    assert "mirror" in message


def test_an_installer_that_fails_once_is_forgiven(machine: Machine) -> None:
    machine.apt_get()
    real = (machine.bin / "apt-get").rename(machine.bin / "apt-get.real")
    flag = machine.folder / "flag"
    machine.script("apt-get", f'[ -e "{flag}" ] || {{ : >"{flag}"; exit 100; }}; exec "{real}" "$@"')
    code, lines = machine.setup("onnx_model")
    assert code == EXIT_GOOD
    assert "trying again" in lines[1]


def test_what_an_installer_did_not_bring_is_told_with_its_cost(machine: Machine) -> None:
    machine.script("apt-get")
    code, lines = machine.setup("onnx_model")
    assert code == EXIT_INFRASTRUCTURE
    assert lines[-1] == (
        "setup: a way to run pdp11 is still missing: apt-get install pdp11-emulator libc6-pdp11-cross; "
        "without it: pdp11 is compiled, not run"
    )


def test_a_machine_without_apt_is_told_what_to_look_for(machine: Machine) -> None:
    with pytest.raises(ToolError, match="no apt-get on this machine; install what your system calls pdp11-emulator"):
        machine.setup("onnx_model")


def test_pytorch_is_installed_only_when_a_selected_model_needs_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apt_get()
    machine.setup("onnx_model")
    (machine.folder / "requirements" / "torch.txt").write_text("torch==0.0.1\n")
    monkeypatch.setattr(sys, "executable", str(machine.script("python")))
    assert machine.setup("onnx_model")[0] == EXIT_GOOD
    code, lines = machine.setup("torch_model")
    path = machine.folder / "requirements" / "torch.txt"
    build = path.with_name("torch-build.txt")
    pip = "python -m pip install -q --disable-pip-version-check"
    assert machine.called()[2:] == [
        f"{pip} --require-hashes --no-deps -r {path}",
        f"{pip} --require-hashes --no-deps -r {build}",
        f"{pip} {HERE.strip()}",
    ]
    assert lines[0] == "setup: installing Python packages of torch.txt (some minutes the first time)"
    # The program that stood in for pip brought nothing.
    assert code == EXIT_INFRASTRUCTURE
    assert "torch_model: cannot be converted from PyTorch" in lines[-1]


def test_packages_of_the_tests_are_installed_only_when_tests_are_wanted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apt_get()
    machine.setup("onnx_model")
    path = machine.folder / "requirements" / "test.txt"
    path.write_text("ai-edge-litert==0.0.1 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(sys, "executable", str(machine.script("python")))
    assert machine.setup("onnx_model")[0] == EXIT_GOOD
    row = next(
        row
        for row in requirements(machine.project("onnx_model"), tests=True, home=machine.folder)
        if row.name == "Python packages of tests"
    )
    assert (row.found, row.is_wanted, row.python) == (None, True, (Path("requirements", "test.txt"),))
    assert row.how_to_install.endswith(f"--require-hashes --no-deps -r {path}")


def test_every_package_that_only_tests_need_is_pinned_by_hash() -> None:
    lines = (installation.HOME / "requirements" / "test.txt").read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if "==" in line and not line.startswith("#")]
    assert len(pins) > 2
    assert all(lines[number + 1].lstrip().startswith("--hash=sha256:") for number in pins)


def test_the_build_of_a_package_does_not_matter_but_its_version_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.folder / "requirements" / "torch.txt"
    path.write_text("torch==2.13.0\n")
    monkeypatch.setattr(importlib.metadata, "version", {"torch": "2.13.0+cpu"}.__getitem__)
    assert list(installation._unmet(path)) == []
    monkeypatch.setattr(importlib.metadata, "version", {"torch": "2.13.01"}.__getitem__)
    assert list(installation._unmet(path)) == ["torch==2.13.0"]


def test_doctor_shows_what_is_found_what_is_missing_and_what_that_costs(machine: Machine) -> None:
    code, text = machine.doctor("torch_model")
    assert code == EXIT_INFRASTRUCTURE
    lines = text.splitlines()
    assert lines[0].startswith("found    Python 3.11")
    assert "missing  a way to run pdp11           pdp11 is compiled, not run" in lines
    assert "a way to run pdp11: apt-get install pdp11-emulator libc6-pdp11-cross" in lines
    assert "gcc: apt-get install gcc libc6-dev (optional)" in lines
    assert lines[-1] == "./inv setup installs what is missing"
    assert machine.called() == []


def test_doctor_is_content_when_only_optional_things_are_missing(machine: Machine) -> None:
    machine.apt_get()
    machine.setup("torch_model")
    code, text = machine.doctor("torch_model")
    assert code == EXIT_GOOD
    assert "missing  git" in text
    assert text.splitlines()[-1] == "nothing that is needed is missing"


def test_a_package_that_is_not_as_locked_is_told(machine: Machine) -> None:
    (machine.folder / "requirements.lock").write_text("pytest==0.1 \\\n    --hash=sha256:00\n")
    code, text = machine.doctor("onnx_model")
    assert code == EXIT_INFRASTRUCTURE
    assert "start crossfarm with ./inv, which installs them; not as locked: pytest==0.1" in text


def test_a_lost_lock_is_told(machine: Machine) -> None:
    (machine.folder / "requirements.lock").unlink()
    with pytest.raises(ToolError, match=r"requirements\.lock: cannot be read: No such file"):
        machine.doctor("onnx_model")


def test_a_target_without_emulator_is_no_reason_to_fail(machine: Machine) -> None:
    path = machine.folder / "toolchains" / "pdp11.yaml"
    path.write_text(path.read_text().partition("emulator:")[0])
    assert machine.setup("onnx_model") == (EXIT_GOOD, ["setup: everything is there (3 things looked at)"])
    assert "missing  a way to run pdp11           pdp11 is compiled, not run" in machine.doctor("onnx_model")[1]


def test_a_compiler_that_a_toolchain_names_must_be_there(machine: Machine) -> None:
    path = machine.folder / "toolchains" / "pdp11.yaml"
    path.write_text(
        path.read_text().replace("{kind: zig, target: pdp11-linux-gnu.2.17}", "{kind: command, command: [cc11]}")
    )
    assert (
        "compiler of pdp11: install cc11, or name another compiler in toolchains/pdp11.yaml"
        in machine.doctor("onnx_model")[1]
    )
    machine.script("cc11")
    assert f"found    compiler of pdp11            {machine.bin}/cc11" in machine.doctor("onnx_model")[1]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, crossfarm.setup.requirements\n"
        "print(*{'tvm', 'numpy', 'onnx', 'onnxruntime', 'torch', 'PIL', 'ziglang'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_bubblewrap_is_installed_where_nothing_shuts_programs_in(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apt_get()
    assert machine.setup("onnx_model")[0] == EXIT_GOOD
    has = {"bubblewrap": False}
    monkeypatch.setattr(sandbox, "has_bubblewrap", lambda: has["bubblewrap"])
    monkeypatch.setattr(sandbox, "available", lambda: "bubblewrap" if has["bubblewrap"] else "none")
    machine.script("apt-get")
    code, lines = machine.setup("onnx_model")
    assert "install -y --no-install-recommends bubblewrap" in machine.called()[-1]
    assert code == EXIT_INFRASTRUCTURE
    assert "sandbox is still missing" in lines[-1] and "with your rights" in lines[-1]
    has["bubblewrap"] = True
    assert machine.setup("onnx_model") == (EXIT_GOOD, ["setup: everything is there (4 things looked at)"])


def test_a_system_that_forbids_namespaces_is_told_and_fails_no_setup(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apt_get()
    assert machine.setup("onnx_model")[0] == EXIT_GOOD
    monkeypatch.setattr(sandbox, "available", lambda: "none")
    assert machine.setup("onnx_model") == (EXIT_GOOD, ["setup: everything is there (3 things looked at)"])
    code, text = machine.doctor("onnx_model")
    assert code == EXIT_GOOD
    assert re.search(r"^missing  sandbox +programs of models run on this host with your rights", text, re.MULTILINE)


def test_the_emulator_of_a_firmware_is_a_package_that_setup_installs(machine: Machine) -> None:
    target = load_targets(HOME / "toolchains")["cortex_m7"]
    found = installation._way_to_run(target, is_wanted=True)
    assert found.found is None
    assert found.packages == ("qemu-system-arm",)
    assert found.how_to_install.endswith("apt-get install qemu-system-arm")
    machine.script("qemu-system-arm")
    found = installation._way_to_run(target, is_wanted=True)
    assert found.found is not None and not found.packages


def test_axe_core_is_installed_by_npm_from_its_lock_and_counts_only_in_the_locked_version(machine: Machine) -> None:
    folder = machine.folder / "requirements" / "browser"
    package = folder / "node_modules" / "axe-core" / "package.json"
    package.parent.mkdir(parents=True)
    (folder / "package.json").write_text('{"devDependencies": {"axe-core": "4.1.0"}}')
    brought = f"echo '{{\"version\": \"4.1.0\"}}' >'{package}'"

    def row() -> Requirement:
        found = requirements(machine.project("onnx_model"), tests=True, home=machine.folder)
        return next(row for row in found if row.name == "axe-core")

    assert (row().found, row().packages, row().npm) == (None, ("npm",), (Path("requirements", "browser"),))
    machine.script("npm", brought)
    assert row().packages == ()
    install.install_npm(folder, console=Console(io.StringIO(), interactive=False))
    assert machine.called() == [f"npm ci --prefix {folder} --ignore-scripts --no-audit --no-fund"]
    assert row().found == "axe-core 4.1.0"
    package.write_text('{"version": "4.0.9"}')
    assert row().found is None


def test_every_package_of_npm_is_locked_with_a_hash() -> None:
    lock = json.loads((installation.HOME / installation.AXE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert "node_modules/axe-core" in packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


def test_chromium_counts_under_any_of_its_names(machine: Machine) -> None:
    def found() -> str | None:
        rows = requirements(None, tests=True, home=machine.folder)
        return next(row.found for row in rows if row.name == "Chromium")

    assert found() is None
    program = machine.script("google-chrome")
    assert found() == str(program)
