"""Brings one pinned file to this machine: from an https address, or as a wheel through pip.

Only connection trouble, server errors (5xx) and truncated bodies are tried again; whatever would be the same the next
time (4xx, a wrong digest, a package that does not exist) is told at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from crossfarm.errors import FetchError, ToolError, ToolTimeoutError
from crossfarm.util.processes import run_tool

ATTEMPTS = 6
SIZE_LIMIT = 2 << 30
PIP_TIMEOUT_SECONDS = 4 * 3600.0
"""By the clock, for a pip that hangs; an index that is silent ends by pip's own limit long before."""

_PIP_TRANSIENT = re.compile(
    r"Retrying \(|ConnectionError|ConnectTimeout|Read timed out|ReadTimeout|IncompleteRead"
    r"|Connection (broken|aborted|reset)|Temporary failure|HTTP error 5\d\d|5\d\d Server Error|too many 5\d\d",
    re.IGNORECASE,
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIP_ABSENT = re.compile(r"No matching distribution found|Could not find a version", re.IGNORECASE)
_PIP_LIMIT = 4 << 20
"""So many characters of pip's output are looked at, from its end; an index can make it say as much as it likes."""

# Only files are read out of a wheel, so one made for another interpreter or machine serves as well as the native one.
_FOREIGN_PLATFORM = (
    *("--implementation", "cp", "--python-version", "3.11"),
    *("--abi", "cp311", "--abi", "abi3", "--abi", "none"),
    *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64", "--platform", "any"),
)

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file that was fetched and whose content is the pinned one."""

    path: Path
    size: int
    sha256: str


class _TransientError(Exception):
    """Trouble that may be gone at the next attempt; the text says which."""


class _AbsentError(Exception):
    """The package index has no wheel of this name and version for the platform that was asked for."""


class _OtherWheelError(Exception):
    """The package index has wheels of this name and version, but not the pinned one; the text says what it has."""


def download_url(
    url: str,
    *,
    sha256: str,
    folder: Path,
    size_limit: int = SIZE_LIMIT,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Download `url` into `folder` under its own base name.

    Args:
        url: an https address, or http on this machine.
        sha256: digest that the content must have, 64 hexadecimal digits.
        folder: where the file goes; what is not the pinned content is removed.
        size_limit: bytes after which the download is given up.
        sleep: waits the given seconds between two attempts: 1, 2, 4, 8, 16.

    Raises:
        FetchError: the address is not allowed, the server refuses, six attempts failed, or the content is not the
            pinned one.
    """
    from crossfarm.stages.fetch.http_client import download
    from crossfarm.util.https import is_private

    if not is_private(url):
        raise FetchError(f"{url} is neither https nor on this machine; give an https address in `url`")
    path = folder / base_name(url)
    size = download(url, sha256=sha256, path=path, size_limit=size_limit, wait=sleep)
    return Fetched(path=path, size=size, sha256=sha256)


def download_wheel(
    package: str,
    *,
    sha256: str,
    folder: Path,
    sleep: Callable[[float], None] = time.sleep,
    command: Sequence[str] = (sys.executable, "-m", "pip"),
) -> Fetched:
    """Download the wheel of `package` (`name==version`), without its dependencies, from the index that pip uses.

    An index may have several wheels of a version, and may get more of them at any time: pip is told the digest, so that
    it takes the pinned one. Wheels for another interpreter or machine are taken too when the native choice is not the
    pinned one.

    Args:
        package: `name==version`.
        sha256: digest of the wheel.
        folder: where the wheel goes.
        sleep: waits the given seconds between two attempts.
        command: how pip is called.

    Raises:
        FetchError: the index has no such wheel, six attempts failed, or the wheel is not the pinned one.
        ToolError: this Python has no pip.
    """
    if tuple(command[1:3]) == ("-m", "pip") and importlib.util.find_spec("pip") is None:
        raise ToolError(f"{command[0]} has no pip, with which {package} is downloaded; run `./inv setup`")
    found: list[str] = []
    reasons: list[str] = []
    for platform in ((), _FOREIGN_PLATFORM):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pip-") as scratch:
            try:
                attempt = partial(_pip_once, package, sha256, Path(scratch), [*command, "download", *platform])
                wheel = _persist(attempt, what=package, sleep=sleep)
            except _AbsentError as error:
                reasons.append(str(error))
                continue
            except _OtherWheelError as error:
                found.append(str(error))
                continue
            digest = _digest(wheel)
            if digest == sha256:
                path = wheel.rename(folder / wheel.name)
                return Fetched(path=path, size=path.stat().st_size, sha256=digest)
            found.append(f"{wheel.name} with sha256 {digest}")
            if wheel.name.endswith("-none-any.whl"):
                break
    if found:
        raise FetchError(
            f"the wheel of {package} is not the pinned one: expected sha256 {sha256}, got {' and '.join(found)}; "
            "if the new wheel is the one you want, put its sha256 into models.yaml, otherwise do not use this index"
        )
    raise FetchError(
        f"the package index has no wheel of {package}: {reasons[0]}; "
        "check name and version, and which index pip uses (`pip config list`)"
    )


def _persist(attempt: Callable[[], Result], *, what: str, sleep: Callable[[float], None]) -> Result:
    """Call pip up to six times, with exponential back-off, until it no longer fails for a transient reason."""
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except _TransientError as error:
            if number == ATTEMPTS - 1:
                raise FetchError(
                    f"could not download {what} in {ATTEMPTS} attempts: {error}; check the network and try again"
                ) from error
        sleep(float(2**number))
    raise AssertionError("the last attempt returns or raises")


def base_name(url: str) -> str:
    """Return the file name at the end of an address, made harmless; `download` when there is none."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "download"


def _pip_once(package: str, sha256: str, folder: Path, command: list[str]) -> Path:
    """Call `pip download` once and return the wheel.

    Raises:
        _AbsentError: the index does not have it.
        _OtherWheelError: the index has others.
        _TransientError: the network failed.
        FetchError: pip failed for another reason.
    """
    fixed = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--retries", "1"]
    # Only at this level does pip say that an index answered with an error, rather than that it has no such package.
    fixed += ["--ignore-requires-python", "-vv"]
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{sha256}\n")
    try:
        done = run_tool(
            [*command, *fixed, "--dest", str(folder), "--requirement", str(requirements)],
            wall_seconds=PIP_TIMEOUT_SECONDS,
            missing="it is to run pip; run `./inv setup`",
        )
    except ToolTimeoutError as error:
        raise _TransientError(f"pip did not end within {PIP_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode == 0:
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) == 1:
            return wheels[0]
        raise FetchError(
            f"pip downloaded {len(wheels)} wheels for {package}; one was expected, so pin a single version"
        )
    for left_over in folder.iterdir():
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    told = (done.stdout + done.stderr)[-_PIP_LIMIT:]
    trouble = [line.strip() for line in told.splitlines() if _PIP_TRANSIENT.search(line)]
    if trouble:
        raise _TransientError(trouble[-1])
    other = other_wheel(told)
    if other:
        raise _OtherWheelError(f"{base_name(other[0])} with sha256 {other[1]}")
    reason = _last_error(told)
    if _PIP_ABSENT.search(told):
        raise _AbsentError(reason)
    raise FetchError(f"pip could not download {package}: {reason}; try `pip download --no-deps {package}` by hand")


def other_wheel(text: str) -> tuple[str, str] | None:
    """Return address and sha256 of the wheel that pip was offered in place of the pinned one, as its output tells."""
    words = text.partition("DO NOT MATCH THE HASHES")[2].split()
    pairs = itertools.pairwise(words)
    address = next((after for word, after in pairs if word == "from" and ".whl" in after), None)
    digest = next((after for word, after in pairs if word == "Got" and _SHA256.fullmatch(after)), None)
    return (address[: address.rindex(".whl") + 4], digest) if address and digest else None


def _last_error(text: str) -> str:
    """Return the line of pip's output that says most: its last error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no output"])[-1]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
