"""Makes this machine one that runs containers: an engine that answers, ARM programs in them, a Debian below the images.

Nothing here is needed by whoever lets jobs run on this host, so what cannot be had is told and ends nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from crossfarm.boards.virtual.emulation import BINFMT, BINFMT_LINES, register_binfmt, registered_flags
from crossfarm.errors import EXIT_GOOD, CrossfarmError, EngineError, ToolError
from crossfarm.images.build import Say
from crossfarm.images.debian_base import PACKAGE as BOOTSTRAP_PACKAGE
from crossfarm.images.ensure import BuildOptions, supply_base
from crossfarm.setup.install import install_packages
from crossfarm.setup.requirement import Requirement
from crossfarm.util import docker
from crossfarm.util.console import Console
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure, run_tool

ENGINE_PACKAGE = "docker.io"
ENGINE_LOG = Path("/var/log/crossfarm-dockerd.log")

_FOREIGN = {"qemu-arm": ("armv6l", "armv7l", "armv8l", "aarch64"), "qemu-aarch64": ("aarch64",)}
"""What is registered, and the machines that need no emulator for it."""
_SECONDS_TO_START = 180.0
"""By the clock: seconds on an idle machine, a minute and more beside others. A daemon that ends is told at once."""
_SECONDS_BETWEEN_QUESTIONS = 0.2
_LAST_LINES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """The parts of a machine that are looked at and changed; tests have others.

    Attributes:
        home: the project's folder.
        is_root: whether packages may be installed and programs registered.
        log: file for what the engine's daemon says.
        binfmt: where the kernel is told which program runs which programs.
        binfmt_lines: where Debian's emulators say what it is to be told.
    """

    home: Path = HOME
    is_root: bool = dataclasses.field(default_factory=lambda: os.geteuid() == 0)
    log: Path = ENGINE_LOG
    binfmt: Path = BINFMT
    binfmt_lines: Path = BINFMT_LINES


def prepare_host(console: Console, host: Host | None = None) -> int:
    """Install and start what containers need, as far as that is possible, and say what is left to do.

    Args:
        console: where it is said.
        host: the machine; None for this one.

    Returns:
        0: jobs run on this host where containers cannot.
    """
    host = host or Host()

    def say(text: str) -> None:
        console.line(f"setup: {text}")

    for step in (_see_to_engine, _see_to_binfmt, _see_to_debian):
        try:
            step(host, console, say)
        except CrossfarmError as error:
            say(f"{error}\nsetup: jobs run on this host as long as no container engine has their images")
            if step is _see_to_engine:
                break
    return EXIT_GOOD


def host_requirements(host: Host | None = None) -> Iterator[Requirement]:
    """Yield what `doctor` shows about containers; nothing of it is needed for a run on this host."""
    host = host or Host()
    try:
        version, advice = docker.version(), ""
    except EngineError as error:
        version, advice = None, str(error)
    yield Requirement(
        name="container engine", found=version, how_to_install=advice, cost="jobs run on this host", is_wanted=False
    )
    lacking = _unregistered(host)
    yield Requirement(
        name="ARM programs in containers",
        found=None if lacking else "registered with the kernel",
        how_to_install="./inv setup as root registers the emulators",
        cost="virtual ARM boards do not start",
        is_wanted=False,
    )


def start_engine(log: Path, *, say: Say, running: Callable[[], bool] = docker.answers) -> None:
    """Start the engine's daemon, and return when it answers.

    Args:
        log: file for what it says, where no service manager runs it.
        say: takes a line about what is done.
        running: says whether it answers.

    Raises:
        ToolError: it ended, or did not answer within 3 minutes; the message holds the last lines of its log.
    """
    process: int | None = None
    if Path("/run/systemd/system").exists():
        say("starting the container engine with systemctl")
        done = run_tool(["systemctl", "start", "docker"])
        if done.returncode != 0 and not running():
            raise ToolError(f"{failure(done)}\n\nsee journalctl -u docker")
    else:
        say(f"starting dockerd, its log is {log}")
        process = _daemon(log)
    end = time.monotonic() + _SECONDS_TO_START
    while not running():
        ended = _how_it_ended(process) if process else None
        if ended is None and time.monotonic() > end:
            ended = f"did not answer within {_SECONDS_TO_START:g} s"
            if process:
                os.kill(process, signal.SIGTERM)
        if ended is not None:
            advice = f"see {log}" if process else "see journalctl -u docker"
            raise ToolError(f"the container engine {ended}{_tail(log) if process else ''}\n\n{advice}")
        time.sleep(_SECONDS_BETWEEN_QUESTIONS)


def _daemon(log: Path) -> int:
    """Start dockerd in a session of its own, so that it outlives this program; returns its process id."""
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            return os.posix_spawnp(
                "dockerd",
                ["dockerd"],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, descriptor, 1),
                    (os.POSIX_SPAWN_DUP2, descriptor, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ToolError(f"dockerd could not be started: {error}; install {ENGINE_PACKAGE}") from error


def _how_it_ended(process: int) -> str | None:
    ended, status = os.waitpid(process, os.WNOHANG)
    return f"ended with {os.waitstatus_to_exitcode(status)}" if ended else None


def _see_to_engine(host: Host, console: Console, say: Say) -> None:
    if docker.answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise EngineError(f"{docker.find_daemon().problem}; start that engine, or unset DOCKER_HOST")
    if not host.is_root:
        raise EngineError(
            "no container engine answers. As root, on Debian: apt-get install docker.io; then join its group: "
            "adduser $USER docker"
        )
    if shutil.which("dockerd") is None:
        row = Requirement(
            name="container engine",
            found=None,
            how_to_install=f"apt-get install {ENGINE_PACKAGE}",
            cost="jobs run on this host",
            packages=(ENGINE_PACKAGE,),
        )
        install_packages(row.packages, [row], yes=True, is_root=True, console=console)
    if not docker.answers():  # where systemd runs, the package has started it
        start_engine(host.log, say=say)
    say(f"container engine: {docker.version()}")


def _see_to_binfmt(host: Host, console: Console, say: Say) -> None:
    lacking = _unregistered(host)
    if lacking and host.is_root and all((host.binfmt_lines / f"{name}.conf").exists() for name in lacking):
        register_binfmt(lacking, binfmt=host.binfmt, lines=host.binfmt_lines, say=say)


def _see_to_debian(host: Host, console: Console, say: Say) -> None:
    """Have the Debian below the images: from its registry, else made here."""
    if host.is_root and shutil.which("apt-get") and shutil.which(BOOTSTRAP_PACKAGE) is None:
        with contextlib.suppress(EngineError):
            supply_base(host.home, terms=BuildOptions(), say=say)
            return
        row = Requirement(
            name=BOOTSTRAP_PACKAGE,
            found=None,
            how_to_install=f"apt-get install {BOOTSTRAP_PACKAGE}",
            cost="Debian cannot be made here, and no registry answers",
            packages=(BOOTSTRAP_PACKAGE,),
        )
        install_packages(row.packages, [row], yes=True, is_root=True, console=console)
    supply_base(host.home, terms=BuildOptions(may_bootstrap=True), say=say)


def _unregistered(host: Host) -> tuple[str, ...]:
    """Return the emulators that the kernel does not know, or not so that they work in containers."""
    machine = platform.machine()
    return tuple(
        name
        for name, native in _FOREIGN.items()
        if machine not in native and "F" not in registered_flags(host.binfmt / name)
    )


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in lines)
