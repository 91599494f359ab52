"""What crossfarm needs of this machine: `doctor` says what is there, `setup` installs what is missing.

Nothing heavy is imported: a setup that finds everything in place costs a few lookups on PATH and in package metadata.
"""

from __future__ import annotations

import fnmatch
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from crossfarm.backends import load_backend
from crossfarm.boards.protocol import Simulator, load_simulator
from crossfarm.boards.transports import local
from crossfarm.config.models import Model
from crossfarm.config.project import Project
from crossfarm.config.targets import CommandCompiler, Target
from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE, BoardError
from crossfarm.setup.environments import find_python, make_environment
from crossfarm.setup.install import (
    TORCH,
    TORCH_BUILD,
    hashed_command,
    install_hashed,
    install_npm,
    install_packages,
    install_torch,
    installed_as_locked,
    npm_command,
    pins,
    torch_commands,
    version_of,
)
from crossfarm.setup.requirement import Requirement
from crossfarm.util import sandbox
from crossfarm.util.console import Console
from crossfarm.util.environments import ToolEnvironment
from crossfarm.util.paths import HOME

LOCK = Path("requirements.lock")
TESTS = Path("requirements", "test.txt")
AXE = Path("requirements", "browser")
"""The folder with what npm installs for the tests."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def requirements(project: Project | None, *, tests: bool, home: Path = HOME) -> list[Requirement]:
    """Look at this machine and return all that is needed, present or not.

    Args:
        project: whose models and targets are asked for; None looks only at what every project needs.
        tests: whether the tests' own needs count as wanted.
        home: crossfarm's folder, which holds the lists of Python packages.
    """
    return [
        _python(),
        _locked_packages(home),
        *(_targets(project) if project else ()),
        *(_torch(project, home) if project else ()),
        *(_environments(project) if project else ()),
        _sandbox(tests=tests),
        _packages_of_tests(home, is_wanted=tests),
        _compiler_of_tests(is_wanted=tests),
        _cmake_of_tests(is_wanted=tests),
        _program("sshd", "boards over ssh are not tested", ("openssh-server", "openssh-client"), is_wanted=tests),
        _postgresql_of_tests(is_wanted=tests),
        _browser_of_tests(is_wanted=tests),
        _axe_of_tests(home, is_wanted=tests),
        _program("mmdebstrap", "there are no virtual boards", ("mmdebstrap",), is_wanted=tests),
        _program("git", "results do not name the commit they belong to", ("git",), is_wanted=False),
    ]


def run_doctor(
    project: Project | None,
    *,
    console: Console,
    tests: bool = False,
    home: Path = HOME,
    more: Iterable[Requirement] = (),
) -> int:
    """Show what is found, what is missing, what that costs and what to do.

    Args:
        project: as in `requirements`, and so are `tests` and `home`.
        console: where it is shown.
        more: what else is told of.

    Returns:
        0 when nothing is missing that the chosen models and targets need, else 3.
    """
    rows = [*requirements(project, tests=tests, home=home), *more]
    width = max(len(row.name) for row in rows)
    for row in rows:
        console.line(f"{'missing' if row.found is None else 'found  '}  {row.name:<{width}}  {row.found or row.cost}")
    missing = [row for row in rows if row.found is None]
    for row in missing:
        console.line(f"{row.name}: {row.how_to_install}{'' if row.is_wanted else ' (optional)'}")
    wanted = [row for row in missing if row.is_wanted]
    if any(row.packages or row.python or row.npm or row.environments for row in wanted):
        console.line("./inv setup installs what is missing")
    if not wanted:
        console.line("nothing that is needed is missing")
    return EXIT_INFRASTRUCTURE if wanted else EXIT_GOOD


def run_setup(
    project: Project | None,
    *,
    yes: bool,
    tests: bool,
    console: Console,
    is_root: bool | None = None,
    home: Path = HOME,
) -> int:
    """Install what is missing, and say so; a second call finds everything and does nothing.

    Args:
        project: as in `requirements`, and so are `tests` and `home`.
        yes: whether sudo may be used without asking.
        console: where is said what is done.
        is_root: whether packages may be installed directly; None asks the system.

    Returns:
        0 when everything is there at the end, else 3.

    Raises:
        ToolError: an installer failed, or would need another user; the message holds the command to type.
    """
    rows = [row for row in requirements(project, tests=tests, home=home) if row.is_wanted]
    missing = [row for row in rows if row.found is None]
    if not missing:
        console.line(f"setup: everything is there ({len(rows)} things looked at)")
        return EXIT_GOOD
    packages = tuple(dict.fromkeys(package for row in missing for package in row.packages))
    if packages:
        install_packages(
            packages, missing, yes=yes, is_root=os.geteuid() == 0 if is_root is None else is_root, console=console
        )
    files = {file for row in missing for file in row.python}
    if TESTS in files:
        install_hashed(home / TESTS, console=console)
    if TORCH in files:
        install_torch(home, console=console)
    for folder in dict.fromkeys(folder for row in missing for folder in row.npm):
        install_npm(home / folder, console=console)
    for environment in dict.fromkeys(found for row in missing for found in row.environments):
        make_environment(environment, console=console)
    left = [row for row in requirements(project, tests=tests, home=home) if row.is_wanted and row.found is None]
    for row in left:
        console.line(f"setup: {row.name} is still missing: {row.how_to_install}; without it: {row.cost}")
    if not left:
        console.line(f"setup: done, installed {', '.join(row.name for row in missing)}")
    return EXIT_INFRASTRUCTURE if left else EXIT_GOOD


def _python() -> Requirement:
    version = platform.python_version()
    return Requirement(
        name="Python 3.11",
        found=f"{version} in {sys.prefix}" if sys.version_info[:2] == (3, 11) else None,
        how_to_install=f"this is {version}; start crossfarm with ./inv, which takes Python 3.11",
        cost="the pinned packages do not install",
    )


def _locked_packages(home: Path) -> Requirement:
    wrong = list(_unmet(home / LOCK))
    versions = ", ".join(f"{name} {version_of(name)}" for name in ("apache-tvm", "onnxruntime", "ziglang"))
    return Requirement(
        name="Python packages of the lock",
        found=None if wrong else versions,
        how_to_install=f"start crossfarm with ./inv, which installs them; not as locked: {_some(wrong)}",
        cost="nothing can be compiled",
    )


def _torch(project: Project, home: Path) -> Iterator[Requirement]:
    models = [model.name for model in _selected_models(project) if model.format in ("torch", "torchscript")]
    if models:
        wrong = [*_unmet(home / TORCH), *_unmet(home / TORCH_BUILD)]
        yield Requirement(
            name="PyTorch",
            found=None if wrong else f"torch {version_of('torch')}",
            how_to_install=" && ".join(map(shlex.join, torch_commands(home))),
            cost=f"{', '.join(models)}: cannot be converted from PyTorch",
            python=(TORCH, TORCH_BUILD),
        )


def _environments(project: Project) -> Iterator[Requirement]:
    """Yield the Python environments that the backends of the pipeline's targets bring."""
    users: dict[ToolEnvironment, list[str]] = {}
    for name in project.pipeline.targets:
        for environment in load_backend(project.targets[name].backend).DECLARATION.environments:
            users.setdefault(environment, []).append(name)
    for environment, names in users.items():
        yield environment_row(environment, users=names)


def environment_row(environment: ToolEnvironment, *, users: Sequence[str]) -> Requirement:
    """Return a Python environment, with the programs that go with it; `users` are targets."""
    interpreter = environment.interpreter()
    is_possible = interpreter is not None or find_python(environment.python) is not None
    is_whole = interpreter is not None and all(map(shutil.which, environment.programs))
    if interpreter is not None:
        advice = f"apt-get install {' '.join(environment.packages)}"
    elif is_possible:
        advice = f"./inv setup makes it, from Python {environment.python}"
    else:
        advice = (
            f"install Python {environment.python}, for instance with: pyenv install {environment.python}; "
            "then ./inv setup"
        )
    return Requirement(
        name=f"Python environment {environment.name}",
        found=str(interpreter) if is_whole else None,
        how_to_install=advice,
        cost=f"{', '.join(users)}: cells are skipped",
        packages=() if is_whole else environment.packages,
        environments=(environment,) if is_possible and interpreter is None else (),
        is_wanted=is_possible,
    )


def _targets(project: Project) -> Iterator[Requirement]:
    """Yield what each target needs to be compiled and run here; targets that are not selected come last."""
    selected = project.pipeline.targets
    for name, target in sorted(project.targets.items(), key=lambda item: item[0] not in selected):
        yield _way_to_run(target, is_wanted=name in selected)
        if isinstance(target.compiler, CommandCompiler):
            yield _compiler_of_target(target, target.compiler, is_wanted=name in selected)


def _way_to_run(target: Target, *, is_wanted: bool) -> Requirement:
    """Return how programs for a target run here; a target without an emulator is none that setup could help."""
    simulator = load_backend(target.backend).DECLARATION.simulator
    if simulator is not None:
        return _simulator_of_target(target, load_simulator(simulator), is_wanted=is_wanted)
    packages: tuple[str, ...] = ()
    advice = ""
    try:
        way = local.execution_mode(machines=target.machine, emulator=target.emulator, code=target.instructions)
        found = " ".join(way.prefix) or f"natively, this is a {platform.machine()}"
    except BoardError as error:
        found, advice = None, str(error)
        if target.emulator is not None:
            emulator = target.emulator
            packages = (emulator.package, *([emulator.library_package] if emulator.library_package else []))
    return Requirement(
        name=f"a way to run {target.name}",
        found=found,
        how_to_install=f"apt-get install {' '.join(packages)}" if packages else advice,
        cost=f"{target.name} is compiled, not run",
        packages=packages,
        is_wanted=is_wanted and target.emulator is not None,
    )


def _simulator_of_target(target: Target, simulator: Simulator, *, is_wanted: bool) -> Requirement:
    """Return what simulates a target; no setup is to fail for one that this machine cannot have."""
    missing = simulator.missing()
    declared = load_backend(target.backend).DECLARATION
    packages, absent = declared.packages, (each for each in declared.environments if each.interpreter() is None)
    can_be_had = bool(packages) or any(find_python(each.python) is not None for each in absent)
    return Requirement(
        name=f"a way to run {target.name}",
        found=f"simulated: {', '.join(simulator.fingerprint().values())}" if missing is None else None,
        how_to_install=missing or "",
        packages=packages if missing is not None else (),
        cost=f"{target.name} is compiled, not run",
        is_wanted=is_wanted and (missing is None or can_be_had),
    )


def _compiler_of_target(target: Target, compiler: CommandCompiler, *, is_wanted: bool) -> Requirement:
    command = compiler.command[0]
    return Requirement(
        name=f"compiler of {target.name}",
        found=shutil.which(command),
        how_to_install=f"install {command}, or name another compiler in toolchains/{target.name}.yaml",
        cost=f"{target.name} cannot be compiled",
        is_wanted=is_wanted,
    )


def _sandbox(*, tests: bool) -> Requirement:
    """Return what shuts programs in; `setup` can install bubblewrap, and no more, where the system forbids namespaces.

    The tests try each way, so they want bubblewrap even where unshare does.
    """
    kind, is_installed = sandbox.available(), sandbox.has_bubblewrap()
    found = None if kind == "none" or (tests and not is_installed) else kind
    return Requirement(
        name="sandbox",
        found=found,
        how_to_install=f"{sandbox.ADVICE}; docs/engines.md says what it takes",
        cost="programs of models run on this host with your rights, your home and your network",
        packages=() if is_installed else ("bubblewrap",),
        is_wanted=found is not None or not is_installed,
    )


def _packages_of_tests(home: Path, *, is_wanted: bool) -> Requirement:
    wrong = list(_unmet(home / TESTS))
    return Requirement(
        name="Python packages of tests",
        found=None if wrong else ", ".join(f"{name} {version_of(name)}" for name in ("ai-edge-litert", "mutmut")),
        how_to_install=shlex.join(hashed_command(home / TESTS)),
        cost="what is converted from TFLite is not compared with LiteRT",
        python=(TESTS,),
        is_wanted=is_wanted,
    )


def _compiler_of_tests(*, is_wanted: bool) -> Requirement:
    headers = Path("/usr/include/stdio.h")
    gcc = shutil.which("gcc")
    return Requirement(
        name="gcc",
        found=gcc if headers.exists() else None,
        how_to_install="apt-get install gcc libc6-dev",
        cost="the runner is not tested with sanitizers",
        packages=("gcc", "libc6-dev"),
        is_wanted=is_wanted,
    )


def _cmake_of_tests(*, is_wanted: bool) -> Requirement:
    tools = ("cmake", "g++", "arm-linux-gnueabihf-g++")
    found = [path for tool in tools if (path := shutil.which(tool))]
    packages = ("cmake", "make", "g++", "g++-arm-linux-gnueabihf")
    return Requirement(
        name="CMake with C++",
        found=", ".join(found) if len(found) == len(tools) else None,
        how_to_install=f"apt-get install {' '.join(packages)}",
        cost="the C++ example of bundles is not tested",
        packages=packages,
        is_wanted=is_wanted,
    )


def _program(name: str, cost: str, packages: tuple[str, ...], *, is_wanted: bool) -> Requirement:
    """Return a program that the first of some Debian packages brings; servers stand in /usr/sbin."""
    return Requirement(
        name=name,
        found=shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"),
        how_to_install=f"apt-get install {packages[0]}",
        cost=cost,
        packages=packages,
        is_wanted=is_wanted,
    )


def _postgresql_of_tests(*, is_wanted: bool) -> Requirement:
    """Return the server whose programs Debian keeps off PATH, so that several versions may stand side by side."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Requirement(
        name="PostgreSQL",
        found=str(programs[-1].parent) if programs else shutil.which("initdb"),
        how_to_install="apt-get install postgresql",
        cost="leases that farms on several hosts share are not tested",
        packages=("postgresql",),
        is_wanted=is_wanted,
    )


def _browser_of_tests(*, is_wanted: bool) -> Requirement:
    """Return Chromium under any of its names; playwright, which drives it, brings none of its own."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return Requirement(
        name="Chromium",
        found=found,
        how_to_install="apt-get install chromium",
        cost="report.html is not tested in a browser",
        packages=("chromium",),
        is_wanted=is_wanted,
    )


def _axe_of_tests(home: Path, *, is_wanted: bool) -> Requirement:
    """Return axe-core, which npm installs from the lock file beside its package.json."""
    found = installed_as_locked(home / AXE)
    return Requirement(
        name="axe-core",
        found=found,
        how_to_install=shlex.join(npm_command(home / AXE)),
        cost="whether report.html can be used without eyes or mouse is not tested",
        packages=() if found or shutil.which("npm") else ("npm",),
        npm=(AXE,),
        is_wanted=is_wanted,
    )


def _selected_models(project: Project) -> list[Model]:
    return [
        model
        for model in project.models_file.models
        if any(fnmatch.fnmatchcase(model.name, glob) for glob in project.pipeline.models)
    ]


def _unmet(path: Path) -> Iterator[str]:
    """Yield each `name==version` of a requirements file that is not installed so.

    A local part of the installed version (`2.13.0+cpu`) says which build it is, and any is good.
    """
    for name, version in pins(path):
        if version_of(name).partition("+")[0] != version:
            yield f"{name}=={version}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
