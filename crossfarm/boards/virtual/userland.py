"""The userland of virtual boards: Debian packages, extracted and never configured, as an image of the container engine.

Configuring packages would run their scripts under emulation, for minutes. What the scripts of these few packages would
have done is written into the archive instead.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from crossfarm.boards.virtual.kinds import BoardKind
from crossfarm.errors import EngineError, ToolError
from crossfarm.images.debian_base import debian_sources
from crossfarm.util.processes import failure, run_tool
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    import docker

LABEL = "crossfarm.boards.virtual-board"
_SUITE = "bookworm"
_PACKAGES = (
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "grep",
    "libc-bin",
    "libgomp1",
    "libpython3-stdlib",
    "libstdc++6",
    "login",
    "openssh-server",
    "openssh-sftp-server",
    "passwd",
    "perl-base",
    "procps",
    "python3-minimal",
    "python3-numpy",
    "sed",
    "tar",
    "util-linux",
)
_USER = 1000
_SSHD = """\
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
Subsystem sftp /usr/lib/openssh/sftp-server
MaxStartups 50
"""
_VERSION = 1
"""Raise it when what is made here changes in another way than by the constants above."""
_SECONDS = 4 * 3600.0
"""By the clock, for a mirror that hangs: how long packages take says what the network and this machine do besides."""


def ensure_image(client: docker.DockerClient, kind: BoardKind, *, say: IO[str]) -> str:
    """Return the name of the image of a kind's userland, made if the engine lacks it.

    Args:
        client: the engine.
        kind: whose userland.
        say: takes a line about what takes long.

    Raises:
        ToolError: mmdebstrap is missing or fails.
        EngineError: the engine does not take the image.
    """
    import docker.errors

    name = image_name(kind)
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        pass
    else:
        return name
    say.write(f"making a Debian {_SUITE} for {kind.architecture} (once, some seconds)\n")
    say.flush()
    with scratch_folder("userland") as folder:
        folder.chmod(0o755)  # mmdebstrap fetches as the user _apt
        archive = folder / "userland.tar"
        _extract(kind, archive.with_name("extracted.tar"))
        _finish(archive.with_name("extracted.tar"), archive)
        repository, _, version = name.partition(":")
        try:
            client.api.import_image(str(archive), repository, version, changes=[f"LABEL {LABEL}=image"])
        except docker.errors.DockerException as error:
            raise EngineError(
                f"the engine does not take the image {name}: {error}; see that its disk has room"
            ) from error
    return name


def image_name(kind: BoardKind) -> str:
    """Return what the image of a kind's userland is called on an engine."""
    recipe = repr((_VERSION, _SUITE, _PACKAGES, _USER, _SSHD, kind.architecture))
    return f"crossfarm-board-{kind.architecture}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _extract(kind: BoardKind, archive: Path) -> None:
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = [
        *("mmdebstrap", "--quiet", "--variant=extract", f"--mode={mode}", f"--architectures={kind.architecture}"),
        *(f"--include={','.join(_PACKAGES)}", _SUITE, str(archive), _mirror()),
    ]
    done = run_tool(
        command,
        environment={"TMPDIR": str(archive.parent)},
        merged=True,
        takes_keyboard=True,  # it unmounts what it mounted when Ctrl-C ends it
        wall_seconds=_SECONDS,
        missing="as root: apt-get install mmdebstrap",
        slow="see that the package mirror answers",
    )
    if done.returncode != 0:
        raise ToolError(f"{failure(done)}\n\nsee that this machine reaches its package mirror")


def _mirror() -> str:
    """Return the mirror of this machine's packages.

    Security updates are left out: the boards' network leads nowhere, and mirrors are late with them for other machines.
    """
    lines = (line for line in debian_sources().splitlines() if not line.lstrip().startswith("#"))
    found = re.search(r"https?://\S+", " ".join(lines))
    return found[0] if found else "http://deb.debian.org/debian"


def _finish(extracted: Path, archive: Path) -> None:
    """Copy an archive with what the packages' scripts would have made; the engine takes no name twice."""
    with tarfile.open(extracted) as made:
        passwd = _text(made, "./usr/share/base-passwd/passwd.master")
        group = _text(made, "./usr/share/base-passwd/group.master")
        passwd += f"sshd:*:100:65534::/run/sshd:/usr/sbin/nologin\nfarm:*:{_USER}:{_USER}::/home/farm:/bin/sh\n"
        group += f"farm:x:{_USER}:\n"
        texts = {
            "./etc/passwd": passwd.encode(),
            "./etc/group": group.encode(),
            "./etc/ssh/sshd_config": _SSHD.encode(),
        }
        links = [_link("./bin/sh", "dash"), *_alternatives(made.getnames())]
        additions = [*links, *(_member(name, size=len(text)) for name, text in texts.items())]
        for name, owner in (("./run/sshd", 0), ("./home/farm", _USER)):
            folder = _member(name, mode=0o755, owner=owner)
            folder.type = tarfile.DIRTYPE
            additions.append(folder)
        replaced = {member.name for member in additions}
        with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as finished:
            for member in made:
                if member.name.rstrip("/") not in replaced and not member.isdev():
                    finished.addfile(member, made.extractfile(member) if member.isreg() else None)
            for member in additions:
                finished.addfile(member, io.BytesIO(texts.get(member.name, b"")))


def _alternatives(names: Iterable[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the links by which NumPy finds the linear algebra that it was installed with."""
    for name in names:
        found = re.fullmatch(r"(\./usr/lib/[^/]+)/((?:blas|lapack)/(lib(?:blas|lapack)\.so\.3))", name)
        if found:
            yield _link(f"{found[1]}/{found[3]}", found[2])


def _link(name: str, target: str) -> tarfile.TarInfo:
    member = _member(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def archive_of(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a tar archive of small files for a container: path -> content and mode; root owns them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, (content, mode) in files.items():
            archive.addfile(_member(name, size=len(content), mode=mode), io.BytesIO(content))
    return raw.getvalue()


def remove_images(client: docker.DockerClient) -> Iterator[str]:
    """Remove all userlands from the engine that no container uses, and yield their names."""
    import docker.errors

    for image in client.images.list(filters={"label": f"{LABEL}=image"}):
        try:
            client.images.remove(image.id)
        except docker.errors.APIError:
            continue  # another clone's boards use it
        yield next(iter(image.tags), image.id)


def _member(name: str, *, size: int = 0, mode: int = 0o644, owner: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.uid, member.gid = size, mode, owner, owner
    return member


def _text(archive: tarfile.TarFile, name: str) -> str:
    content = archive.extractfile(name)
    if content is None:
        raise ToolError(f"mmdebstrap made an archive without {name}; remove it from its cache and try again")
    return content.read().decode()
