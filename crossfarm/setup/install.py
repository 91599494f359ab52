"""Runs apt-get, pip and npm, thrice where it must be: what fails most is the network."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.errors import ToolError
from crossfarm.util.console import Console
from crossfarm.util.processes import failure, run_tool

if TYPE_CHECKING:
    from crossfarm.setup.requirement import Requirement

TORCH = Path("requirements", "torch.txt")
"""All that PyTorch needs, with hashes."""
TORCH_BUILD = Path("requirements", "torch-build.txt")
"""PyTorch itself, with the hashes of its builds for processors alone."""
TORCH_CUDA = Path("requirements", "torch-build-cuda.txt")
"""PyTorch itself, with the hashes of its builds with CUDA."""

_TRIES = 3
_SECONDS_BETWEEN_TRIES = 5.0
_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
_LINES_OF_A_FAILURE = 10
_CHECKED = ("--require-hashes", "--no-deps")
_OTHER_BUILD = "DO NOT MATCH THE HASHES"
"""What pip says when it got another file than those whose hashes it was given."""


def install_packages(
    packages: Sequence[str], missing: Iterable[Requirement], *, yes: bool, is_root: bool, console: Console
) -> None:
    """Install Debian packages with apt-get.

    Args:
        packages: their names.
        missing: what is missing without them, for messages.
        yes: whether sudo may be used without asking.
        is_root: whether sudo is not needed.
        console: where is said what is done.

    Raises:
        ToolError: it fails, or would need another user; the message holds the command to type.
    """
    names = ", ".join(row.name for row in missing if row.packages)
    costs = "; ".join(row.cost for row in missing if row.packages)
    if shutil.which("apt-get") is None:
        raise ToolError(
            f"setup: missing here: {names} ({costs}). There is no apt-get on this machine; install what your system "
            f"calls {' '.join(packages)}, then type the same command again"
        )
    become: tuple[str, ...] = ()
    if not is_root:
        if not yes or shutil.which("sudo") is None:
            raise ToolError(
                f"setup: missing here: {names} ({costs}). Installing it takes root; type\n\n"
                f"    sudo apt-get update && sudo apt-get install -y {shlex.join(packages)}\n\n"
                "then the same command again, or add --yes to let setup use sudo itself"
            )
        become = ("sudo", "env", "DEBIAN_FRONTEND=noninteractive")
    console.line(f"setup: installing {' '.join(packages)} with {'sudo ' if become else ''}apt-get")
    _try_thrice(
        [[*become, *_APT, "update"], [*become, *_APT, "install", "-y", "--no-install-recommends", *packages]],
        environment={"DEBIAN_FRONTEND": "noninteractive"},
        advice="see that the machine reaches its package mirror, then type the same command again",
        console=console,
    )


def install_torch(home: Path, *, console: Console) -> None:
    """Install PyTorch and what it needs, and say of which distributions no hash was checked, and why.

    Args:
        home: crossfarm's folder, which holds the lists of Python packages.
        console: where is said what is done.

    pip checks all hashes of a call or none. So what has hashes comes first; then torch with the hashes of the builds
    that are known, the smaller ones in a call of their own: pip prefers a file whose hash the index tells to a newer
    one, and would take the gigabytes of CUDA. Then, without hashes, another build where the index has none of those,
    and the libraries that a build with CUDA needs.

    Raises:
        ToolError: pip fails, or a distribution is not the one whose hash is known.
    """
    console.line(f"setup: installing Python packages of {TORCH.name} (some minutes the first time)")
    advice = "see that the machine reaches its package index, then type the same command again"
    others, build = torch_commands(home)
    cuda = _pip(*_CHECKED, "-r", str(home / TORCH_CUDA))
    _try_thrice([others], environment={}, advice=advice, console=console)
    is_known = any(_is_installed_as_known(command, advice=advice, console=console) for command in (build, cuda))
    before = _installed()
    unchecked = _pip(*(f"{name}=={version}" for name, version in pins(home / TORCH_BUILD)))
    _try_thrice([unchecked], environment={}, advice=advice, console=console)
    found = sorted(_installed() - before)
    if found:
        why = (
            "this build needs them, and other builds do not"
            if is_known
            else "the index offers another build than those whose hashes are known"
        )
        console.line(f"setup: not checked by hash: {', '.join(found)}, because {why}")


def install_hashed(path: Path, *, console: Console) -> None:
    """Install the distributions of a requirements file, each with a hash.

    Raises:
        ToolError: pip fails, or a distribution is not the one whose hash is known.
    """
    console.line(f"setup: installing Python packages of {path.name}")
    advice = "see that the machine reaches its package index, then type the same command again"
    _try_thrice([hashed_command(path)], environment={}, advice=advice, console=console)


def install_hashed_into(python: str, path: Path, *, console: Console) -> None:
    """Install the distributions of a requirements file, each with a hash, for another interpreter.

    Where some come as source, NAME-build.txt beside NAME.txt locks what builds them; pip would else fetch whatever
    version of it is the newest, unchecked.

    Raises:
        ToolError: pip fails, or a distribution is not the one whose hash is known.
    """
    advice = "see that the machine reaches its package index, then type the same command again"
    build = path.with_name(f"{path.stem}-build.txt")
    if build.exists():
        commands = [hashed_command(build, python), [*hashed_command(path, python), "--no-build-isolation"]]
    else:
        commands = [hashed_command(path, python)]
    _try_thrice(commands, environment={}, advice=advice, console=console)


def hashed_command(path: Path, python: str | None = None) -> list[str]:
    """Return the command that installs what a file lists, with hashes; for this Python where no other is named."""
    return _pip(*_CHECKED, "-r", str(path), python=python)


def install_npm(folder: Path, *, console: Console) -> None:
    """Install what the package-lock.json of a folder names, each with its hash, and run no script of a package.

    Raises:
        ToolError: npm fails, or a package is not the one whose hash is known.
    """
    console.line(f"setup: installing packages of {folder.name}/package-lock.json with npm")
    advice = "see that the machine reaches its npm registry, then type the same command again"
    _try_thrice([npm_command(folder)], environment={}, advice=advice, console=console)


def npm_command(folder: Path) -> list[str]:
    """Return the command that installs what the package-lock.json of a folder names."""
    return ["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]


def installed_as_locked(folder: Path) -> str | None:
    """Return name and version of each package of a folder's package.json; None where one is not as locked."""
    found = []
    try:
        wanted = json.loads((folder / "package.json").read_bytes())["devDependencies"]
        for name, version in wanted.items():
            package = json.loads((folder / "node_modules" / name / "package.json").read_bytes())
            if package["version"] != version:
                return None
            found.append(f"{name} {version}")
    except (OSError, ValueError, KeyError):
        return None
    return ", ".join(found)


def _is_installed_as_known(command: Sequence[str], *, advice: str, console: Console) -> bool:
    """Run pip; return False when what the index offers has another hash than those that are known."""
    try:
        _try_thrice([command], environment={}, advice=advice, console=console)
    except ToolError as error:
        if _OTHER_BUILD not in str(error):
            raise
        return False
    return True


def torch_commands(home: Path) -> tuple[list[str], ...]:
    """Return the commands that install PyTorch with the hashes that are known; `home` is the project's folder."""
    return tuple(hashed_command(home / path) for path in (TORCH, TORCH_BUILD))


def _installed() -> set[str]:
    """Return all distributions of this environment: `torch 2.13.0`."""
    importlib.invalidate_caches()
    return {f"{found.name} {found.version}" for found in importlib.metadata.distributions()}


def _pip(*arguments: str, python: str | None = None) -> list[str]:
    return [python or sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]


def _try_thrice(
    commands: Sequence[Sequence[str]], *, environment: Mapping[str, str], advice: str, console: Console
) -> None:
    """Run all commands one after another; when one fails, all again, because what fails most is the network."""
    for number in range(1, _TRIES + 1):
        failed = next((found for command in commands if (found := _failure(command, environment))), None)
        if failed is None:
            return
        if _OTHER_BUILD in failed:  # no try gets another file
            break
        if number < _TRIES:
            console.line(f"setup: {failed.splitlines()[0]}; trying again")
            time.sleep(_SECONDS_BETWEEN_TRIES)
    raise ToolError(f"setup: {failed}\n\n{advice}")


def _failure(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Run a command; return None when it succeeds, else what it was, its exit code and the end of what it said."""
    try:
        done = run_tool(command, environment=environment, merged=True, takes_keyboard=True, wall_seconds=None)
    except ToolError as error:
        return str(error)
    return failure(done, lines=_LINES_OF_A_FAILURE) if done.returncode else None


def pins(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and version of each distribution of a requirements file.

    Raises:
        ToolError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}; get the file back from the repository") from error
    for line in lines:
        name, separator, rest = line.partition("==")
        if separator and line[0] not in "# \t-":
            yield name, rest.split()[0]


def version_of(name: str) -> str:
    """Return the installed version of a distribution, or `missing`."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
