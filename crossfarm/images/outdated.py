"""Images that this project made and names no more: an edit of a Dockerfile, or of what is below, makes new ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from crossfarm.errors import EngineError
from crossfarm.images.build import Say, one_at_a_time
from crossfarm.images.debian_base import RECIPE_LABEL
from crossfarm.images.ensure import IMAGE_LABEL
from crossfarm.images.identity import identities, known_names
from crossfarm.images.lock import pinned_base
from crossfarm.util import docker as engine

LABELS = (IMAGE_LABEL, RECIPE_LABEL, "crossfarm.boards.virtual-board")
"""What only images of crossfarm carry. A name proves nothing: anybody may give it."""
_NAME = re.compile(r"(?:\S+/)?crossfarm-[a-z0-9_.-]+:[0-9a-f]{12,16}")
_SITE = "crossfarm-site:"
_SECONDS_TO_COUNT = 600.0
_SECONDS_OF_A_BUILD = 86400.0
"""An image without a name that is younger may be a step of a build that goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OldImage:
    """An image that may go.

    Attributes:
        id: the engine's.
        names: what it is called, all of it crossfarm's; empty for one that lost its name.
        size: bytes, those that it shares with others included.
        created: seconds since the epoch.
    """

    id: str
    names: tuple[str, ...]
    size: int
    created: float


def named_references(root: Path, *, boards: Iterable[str]) -> Set[str]:
    """Return the names of all images that the project's files name today, on whatever engine.

    Args:
        root: the project's folder.
        boards: names of the images of virtual boards.

    Raises:
        ConfigError: a Dockerfile or images.lock cannot be used.
    """
    images = {image.reference for image in identities(root, known_names(root)).values()}
    return images | {pinned_base(root).reference} | set(boards)


def old_images(named: Set[str], *, age_seconds: float = 0.0) -> list[OldImage]:
    """Return the images of crossfarm that nothing names and no container uses, the newest first.

    An image is built on an older one, so in this order each goes before what it stands on.

    Args:
        named: from `named_references`.
        age_seconds: only images that are at least so old.

    Raises:
        EngineError: no engine answers.
    """
    used = {container["ImageID"] for container in engine.ask("/containers/json?all=1")}
    now = time.time()
    found: dict[str, OldImage] = {}
    for label in LABELS:
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        for image in engine.ask(f"/images/json?filters={filters}"):
            names = tuple(name for name in image["RepoTags"] or () if name != "<none>:<none>")
            age = now - image["Created"]
            is_ours = all(_NAME.fullmatch(name) for name in names) and (names or age > _SECONDS_OF_A_BUILD)
            is_named = any(name.rpartition("/")[2] in named for name in names)
            if is_ours and not is_named and image["Id"] not in used and age >= age_seconds:
                found[image["Id"]] = OldImage(
                    id=image["Id"], names=names, size=image["Size"], created=float(image["Created"])
                )
    newest_first = sorted(found.values(), key=lambda image: (-image.created, image.names))
    # What the site's image would be called today is asked of pip and apt, which takes a second: the newest one stays.
    site = next((image for image in newest_first if image.names and _SITE in image.names[0]), None)
    return [image for image in newest_first if image is not site]


def remove_old_images(images: Iterable[OldImage], *, say: Say) -> tuple[list[str], int]:
    """Remove images, except those that came into use meanwhile; returns the names of those that went, and the bytes.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    gone: list[str] = []
    try:
        with one_at_a_time(say), contextlib.closing(engine.client()) as client:
            before = _layers()
            for image in images:
                names = image.names or (image.id,)
                for name in names:
                    try:
                        client.images.remove(name, force=False)
                    except APIError as error:
                        say(f"{name} stays: {engine.said(error)}")
                        break
                    gone.append(name)
            return gone, max(0, before - _layers())
    except (DockerException, RequestException) as error:
        raise EngineError(f"images cannot be removed: {engine.said(error)}; see that the engine runs") from error


def _layers() -> int:
    """Return the bytes of all layers on the engine, each counted once."""
    return int(engine.ask("/system/df", seconds=_SECONDS_TO_COUNT)["LayersSize"])


def described(images: Iterable[OldImage]) -> Iterator[str]:
    """Yield a line for each image."""
    for image in images:
        yield f"{', '.join(image.names) or image.id[:19]} ({image.size / 1e9:.2f} GB with what it shares)"
