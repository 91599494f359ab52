"""What a site adds below the images: its certificates, and the settings of pip and apt that reach its mirrors.

They make an image of their own on top of the plain Debian, so that no Dockerfile of the project holds them. They are no
part of an image's identity: they say from where packages come, and pip's hashes and apt's signatures say what comes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from crossfarm.errors import ToolError
from crossfarm.images.build import Say
from crossfarm.images.identity import ContextFile
from crossfarm.util.processes import output_of

CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
_APT_SETTINGS = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
_SECONDS = 600
"""pip starts in a second, and in a minute on a busy machine; settings that came too late would be left out unseen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """What a machine's builds need of its site.

    Attributes:
        certificates: its certificate authorities: names of files and what stands in them.
        pip: what /etc/pip.conf is to hold; empty where pip needs nothing.
        apt: what a file of /etc/apt/apt.conf.d is to hold; empty where apt needs nothing.
    """

    certificates: tuple[ContextFile, ...]
    pip: str
    apt: str

    def __bool__(self) -> bool:
        return bool(self.certificates or self.pip or self.apt)


def this_site(*, certificates: Path = CERTIFICATES, say: Say) -> Site:
    """Return what this machine's site needs.

    Args:
        certificates: folder of the site's certificates.
        say: takes a line for each setting that is left out.

    Raises:
        ToolError: a certificate is declared there and cannot be read.
    """
    return Site(
        certificates=tuple(_certificates(certificates)),
        pip="".join(_pip_lines(say)),
        apt="".join(_apt_lines(say)),
    )


def site_context(site: Site) -> tuple[ContextFile, ...]:
    """Return a build's context: a Dockerfile, then what it copies."""
    files = list(site.certificates)
    lines = ["ARG BASE_IMAGE", "FROM ${BASE_IMAGE}"]
    if site.apt:
        files.append(_file("site/apt.conf", site.apt))
        lines.append("COPY site/apt.conf /etc/apt/apt.conf.d/90site")
    if site.pip:
        files.append(_file("site/pip.conf", site.pip))
        lines.append("COPY site/pip.conf /etc/pip.conf")
    if site.certificates:
        # A folder that a package owns may not be there in a slim image, and COPY makes it.
        lines += [
            "COPY site/certificates/ /usr/local/share/ca-certificates/",
            "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
            "ca-certificates && update-ca-certificates && rm -rf /var/lib/apt/lists/*",
            f"ENV PIP_CERT={BUNDLE} SSL_CERT_FILE={BUNDLE} REQUESTS_CA_BUNDLE={BUNDLE}",
        ]
    return (_file("site/Dockerfile", "\n".join(lines) + "\n"), *files)


def site_reference(site: Site, *, base: str) -> str:
    """Return what the image of a site is called on an engine; `base` is the Debian below it."""
    hasher = hashlib.sha256(f"{base}\n".encode())
    for file in site_context(site):
        hasher.update(f"{file.path} {hashlib.sha256(file.content).hexdigest()}\n".encode())
    return f"crossfarm-site:{hasher.hexdigest()[:16]}"


def _certificates(folder: Path) -> Iterator[ContextFile]:
    # update-ca-certificates takes files that end in .crt, in folders below as well.
    for path in sorted(folder.rglob("*.crt")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ToolError(
                f"{path}: the site's certificate cannot be read: {error.strerror}; put it there, or remove its name"
            ) from error
        if b"-----BEGIN CERTIFICATE-----" not in content:
            raise ToolError(f"{path}: holds no certificate in PEM form; convert it, or remove it")
        name = path.relative_to(folder).as_posix().replace("/", "-")
        yield ContextFile(path=f"site/certificates/{name}", content=content, executable=False)


def _pip_lines(say: Say) -> Iterator[str]:
    """Yield the lines of a pip.conf with what pip is told on this machine and makes sense in a container."""
    found = {}
    for line in _output([sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]):
        name, _, value = line.partition("=")
        scope, _, key = name.rpartition(".")
        if key in _PIP_SETTINGS and scope in ("global", "install", ":env:"):
            found[key] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    kept = {key: " ".join(_usable(value, f"pip's {key}", say)) for key, value in sorted(found.items())}
    lines = [f"{key} = {value}\n" for key, value in kept.items() if value]
    yield from ["[global]\n", *lines] if lines else []


def _apt_lines(say: Say) -> Iterator[str]:
    if shutil.which("apt-config") is None:
        return
    for line in _output(["apt-config", "dump", *_APT_SETTINGS]):
        name, _, value = line.rstrip(";").partition(" ")
        if name in _APT_SETTINGS and (kept := list(_usable(value.strip('"'), name, say))):
            yield f'{name} "{kept[0]}";\n'


def _usable(value: str, what: str, say: Say) -> Iterator[str]:
    """Yield the words of a setting that mean the same in a container, and give no secret away."""
    for word in value.split():
        parts = urllib.parse.urlsplit(word)
        if parts.username or parts.password:
            say(f"{what}: holds a password and is left out of the images")
        elif parts.scheme == "file" or word.startswith("/") or parts.hostname in ("localhost", "127.0.0.1", "::1"):
            continue  # what is on this machine alone cannot be reached from a container
        else:
            yield word


def _output(command: list[str]) -> list[str]:
    """Return the lines that a command prints; none when it fails, because a machine may have no settings at all."""
    return (output_of(command, wall_seconds=_SECONDS) or "").splitlines()


def _file(path: str, text: str) -> ContextFile:
    return ContextFile(path=path, content=text.encode(), executable=False)
