"""Makes the Debian below the images on this machine, where no registry can be reached, with mmdebstrap.

What a killed bootstrap leaves is a folder that the next one removes. The engine takes a file system whole or not at
all, and the name in `.crossfarm/images.lock` is written after that, so nothing half-made is ever trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crossfarm.errors import EngineError, ToolError
from crossfarm.images.build import Say
from crossfarm.images.lock import OWN_LOCK, Pin, write_pin
from crossfarm.util import docker as engine
from crossfarm.util.processes import failure, run_tool

NAME = "crossfarm-debian"
SUITE = "bookworm"
TAG = "bookworm-slim"
PACKAGE = "mmdebstrap"

RECIPE_LABEL = "crossfarm.recipe"
_DIGEST_LABEL = "crossfarm.digest"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_DEBIAN = "\n".join(
    f"deb http://deb.debian.org/{folder} {suite} main"
    for folder, suite in (("debian", SUITE), ("debian", f"{SUITE}-updates"), ("debian-security", f"{SUITE}-security"))
)
_OPTIONS = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    # Without these, each `apt-get install` of a Dockerfile would leave a hundred megabytes of caches in its layer.
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Dir::Cache::pkgcache ""',
    '--aptopt=Dir::Cache::srcpkgcache ""',
    '--aptopt=DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; }',
    # The engine brings its own, and these name this machine and its network.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)
_SHUT_IN = {
    "root": ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
    "unshare": ("setpriv", "--pdeathsig", "KILL"),
}
"""Ends mmdebstrap with the farm. As root it mounts /proc, /sys and /dev, which in namespaces of its own end with it."""
_CHANGES = ('CMD ["bash"]', "ENV LANG=C.UTF-8")
_EPOCH = "1767225600"
"""The newest date of a file, 2026-01-01: the same packages give the same bytes."""
_SECONDS = 4 * 3600.0
"""By the clock, for a mirror that hangs: how long packages take says what the network and this machine do besides."""
_LAST_LINES = 10


def bootstrap(root: Path, *, lock: int, say: Say, sources: str | None = None) -> Pin:
    """Return a Debian that the engine has, made here if it is not there yet, and write it into the machine's lock file.

    Args:
        root: the project's folder.
        lock: descriptor of the lock that the caller holds; mmdebstrap inherits it, so that one that outlives its
            farm is waited for.
        say: takes lines about the progress.
        sources: apt's sources for the new Debian; None for those of `debian_sources`.

    Raises:
        ToolError: mmdebstrap is missing or fails.
        EngineError: the engine does not take the result.
    """
    sources = debian_sources() if sources is None else sources
    recipe = hashlib.sha256("\0".join((SUITE, sources, _EPOCH, *_OPTIONS, *_CHANGES)).encode()).hexdigest()
    digest = _present(recipe)
    if digest is None:
        if shutil.which(PACKAGE) is None:
            raise ToolError(
                f"{PACKAGE} is not installed, and no registry has the Debian that the images are built on; as root: "
                f"apt-get install {PACKAGE}"
            )
        with _working_folder(root) as folder:
            say(f"making Debian {SUITE} with {PACKAGE} (half a minute)")
            archive = _make(folder, sources, lock=lock)
            digest = _import(archive, recipe)
    pin = Pin(name=NAME, digest=digest, tag=TAG, is_own=True)
    write_pin(root / OWN_LOCK, pin)
    return pin


def debian_sources() -> str:
    """Return apt's sources for the new Debian: this machine's own where it runs the same release, else Debian's."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    if release.get("ID") == "debian" and release.get("VERSION_CODENAME") == SUITE:
        for path in _SOURCES:
            with contextlib.suppress(OSError):
                if SUITE in (text := path.read_text(encoding="utf-8")):
                    return text
    return _DEBIAN


def _present(recipe: str) -> str | None:
    """Return the digest of a Debian of this recipe that the engine has."""
    for image in engine.ask(f'/images/json?filters={{"label":["{RECIPE_LABEL}={recipe}"]}}'):
        digest = (image["Labels"] or {}).get(_DIGEST_LABEL, "")
        if f"{NAME}:{digest[7:23]}" in (image["RepoTags"] or ()):
            return str(digest)
    return None


@contextlib.contextmanager
def _working_folder(root: Path) -> Iterator[Path]:
    """Yield an empty folder; what killed bootstraps of this clone left goes first. The caller holds the lock."""
    parent = root / ".crossfarm" / "images" / "bootstrap"
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    folder.chmod(0o755)  # mmdebstrap fetches as the user _apt
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _make(folder: Path, sources: str, *, lock: int) -> Path:
    archive = folder / "debian.tar"
    is_deb822 = sources.lstrip().startswith(("Types:", "#")) and "URIs:" in sources
    listed = folder / ("debian.sources" if is_deb822 else "debian.list")
    listed.write_text(sources + "\n")
    keyring = () if is_deb822 or not _KEYRING.exists() else (f"--keyring={_KEYRING}",)
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = [*_SHUT_IN[mode], PACKAGE, *_OPTIONS, f"--mode={mode}", *keyring, SUITE, str(archive), str(listed)]
    done = run_tool(
        command,
        environment={"TMPDIR": str(folder), "SOURCE_DATE_EPOCH": _EPOCH},
        merged=True,
        descriptors=(lock,),
        takes_keyboard=True,  # it unmounts what it mounted when Ctrl-C ends it
        wall_seconds=_SECONDS,
        slow="see that the machine reaches its Debian mirror",
    )
    if done.returncode != 0 or not archive.exists():
        raise ToolError(
            f"{failure(done, lines=_LAST_LINES)}\n\nSee that the machine reaches the mirror of its apt sources; where "
            "it is not root, it needs a range in /etc/subuid"
        )
    return archive


def _import(archive: Path, recipe: str) -> str:
    """Hand the file system to the engine, with its labels and its name in one go, and return its digest."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with archive.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    labels = f'LABEL {RECIPE_LABEL}="{recipe}" {_DIGEST_LABEL}="{digest}"'
    try:
        with contextlib.closing(engine.client()) as client:
            client.api.import_image(src=str(archive), repository=NAME, tag=digest[7:23], changes=[*_CHANGES, labels])
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"{NAME}: the container engine does not take the file system: {engine.said(error)}; see its log"
        ) from error
    return digest
