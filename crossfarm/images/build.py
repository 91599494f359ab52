"""Builds one image through docker-py and says, when that fails, which step of which file it was."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from crossfarm.errors import EngineError, ToolError
from crossfarm.images.dockerfile import Instruction, instructions
from crossfarm.images.identity import ContextFile

if TYPE_CHECKING:
    from docker import DockerClient

Say = Callable[[str], None]

_STEP = re.compile(r"Step (\d+)/(\d+) : ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""The classic builder paints what a step writes to its error stream."""
_LAST_LINES = 15
_WIDTH = 100
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_BAD_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "certificate verification failed", "self-signed certificate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a build takes.

    Attributes:
        name: what messages call the image.
        reference: what it will be called.
        files: what the engine is sent, the Dockerfile first.
        base: image that BASE_IMAGE stands for.
        labels: what the image carries beside the Dockerfile's labels.
    """

    name: str
    reference: str
    files: tuple[ContextFile, ...]
    base: str
    labels: Mapping[str, str]


@contextlib.contextmanager
def one_at_a_time(say: Say) -> Iterator[int]:
    """Let whoever else builds images as this user end first: what both need is then made once.

    Yields:
        the descriptor that holds the lock. A child that inherits it keeps the lock until it has ended too.

    Raises:
        ToolError: the lock file cannot be opened.
    """
    path = Path(tempfile.gettempdir(), f"crossfarm-images-{os.geteuid()}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ToolError(f"{path}: cannot be opened: {error.strerror}; remove it, or set TMPDIR") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for others who build images on this machine")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def build(client: DockerClient, recipe: Recipe, *, log: Path, say: Say) -> None:
    """Build one image; it gets its name only when it is whole.

    Args:
        client: docker-py's.
        recipe: what to build.
        log: file for all that the build says; its folder is made.
        say: takes a line for each command that is run.

    Raises:
        ToolError: the build fails; the message names file, line and step, and holds the last lines of the output.
        EngineError: the engine goes away.
    """
    from docker.errors import APIError
    from requests.exceptions import RequestException

    log.parent.mkdir(parents=True, exist_ok=True)
    progress = _Progress(recipe, log, say)
    try:
        with log.open("w", encoding="utf-8") as file:
            chunks = client.api.build(
                fileobj=io.BytesIO(context_archive(recipe.files)),
                custom_context=True,
                dockerfile=recipe.files[0].path,
                tag=recipe.reference,
                buildargs={"BASE_IMAGE": recipe.base, **_proxies()},
                labels=dict(recipe.labels),
                rm=True,
                forcerm=True,
                decode=True,
            )
            for chunk in chunks:  # to the end, also behind an error: that closes the connection
                progress.take(chunk, file)
    except APIError as error:
        raise ToolError(f"{recipe.files[0].path}: {error.explanation or error}; mend the file") from error
    except RequestException as error:
        raise EngineError(
            f"{recipe.name}: the container engine went away while it built the image ({type(error).__name__}); start "
            "it, then type the same command again: finished steps are kept"
        ) from error
    if progress.failure:
        raise progress.failure


def context_archive(files: Iterable[ContextFile]) -> bytes:
    """Return a tar archive of the files that depends on nothing but their names, contents and executability."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.path)
            member.size = len(file.content)
            member.mode = 0o755 if file.executable else 0o644
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


class _Progress:
    """Follows what a build says, chunk by chunk.

    Args:
        recipe: what is built.
        log: where all of it is kept, for messages.
        say: takes a line for each command that is run.

    Attributes:
        failure: why the build failed, once it has said so.
    """

    def __init__(self, recipe: Recipe, log: Path, say: Say) -> None:
        self._recipe = recipe
        self._steps = instructions(recipe.files[0].content.decode("utf-8", "replace"))
        self._log = log
        self._say = say
        self._step = 0
        self.failure: ToolError | None = None
        self._last: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

    def take(self, chunk: Mapping[str, Any], file: TextIO) -> None:
        """Take one message of the engine and write its text to the log."""
        if "error" in chunk:
            file.write(f"{chunk['error']}\n")
            self.failure = self._failure(str(chunk["error"]))
            return
        text = _COLOUR.sub("", str(chunk.get("stream", "")))
        file.write(text)
        if step := _STEP.match(text):
            self._step = int(step[1])
            self._last.clear()
            return
        instruction = self._instruction()
        if text.startswith(" ---> Running in") and instruction and instruction.keyword == "RUN":
            shown = f"RUN {instruction.arguments}"
            self._say(f"{self._recipe.name}: step {self._step} of {len(self._steps)}: {_short(shown)}")
        elif not text.startswith(" --->"):
            self._last.extend(line.rstrip() for line in text.splitlines() if line.strip())

    def _instruction(self) -> Instruction | None:
        return self._steps[self._step - 1] if 0 < self._step <= len(self._steps) else None

    def _failure(self, error: str) -> ToolError:
        path = self._recipe.files[0].path
        instruction = self._instruction()
        where = path
        if instruction:
            command = _short(f"{instruction.keyword} {instruction.arguments}")
            where = f"{path}:{instruction.line}: step {self._step} of {len(self._steps)}, {command}"
        lines = "".join(f"\n    {line}" for line in self._last)
        advice = f"All of the output: {self._log}"
        if any(sign in line for line in (*self._last, error) for sign in _BAD_CERTIFICATE):
            advice = (
                "A server's certificate was not trusted. Where the site's network inspects TLS, put its certificate "
                f"as a .crt file into /usr/local/share/ca-certificates and type the same command again. {advice}"
            )
        return ToolError(f"{where}: failed: {error}{lines}\n\n{advice}")


def _proxies() -> dict[str, str]:
    """Return the proxies of this environment: Docker knows these arguments and keeps them out of the image."""
    return {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
