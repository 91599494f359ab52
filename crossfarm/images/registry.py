"""Carries images to a registry and back, by names that say what is in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from crossfarm.errors import ConfigError, EngineError
from crossfarm.images.build import Say
from crossfarm.images.identity import ImageIdentity
from crossfarm.util import docker as engine

if TYPE_CHECKING:
    from docker import DockerClient

DIGEST_LABEL = "crossfarm.digest"

_REGISTRY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


def checked_registry(text: str) -> str:
    """Return the registry, with a folder in it, that a user named: `ghcr.io/owner`, `localhost:5000`.

    Raises:
        ConfigError: it cannot be the beginning of an image's name.
    """
    if not _REGISTRY.fullmatch(text):
        raise ConfigError(
            f"registry {text!r}: give a host, perhaps a port, and folders in small letters: ghcr.io/owner"
        )
    return text


def push_images(images: Iterable[ImageIdentity], registry: str, *, say: Say) -> None:
    """Push images that the engine has; the engine's own login counts (`docker login`).

    Args:
        images: what to push.
        registry: as `checked_registry` returns it.
        say: takes a line for each image.

    Raises:
        EngineError: no engine answers, it lacks an image, or the registry refuses.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with contextlib.closing(engine.client()) as client:
        for image in images:
            repository, tag = remote_name(image, registry)
            try:
                client.api.tag(image.reference, repository, tag)
                chunks = client.api.push(repository, tag=tag, stream=True, decode=True)
                refused = [chunk["error"] for chunk in chunks if "error" in chunk]
            except (DockerException, RequestException) as error:
                raise EngineError(
                    f"{repository}:{tag}: cannot be pushed: {engine.said(error)}; {_login(registry)}"
                ) from error
            if refused:
                raise EngineError(f"{repository}:{tag}: {refused[0]}; {_login(registry)}")
            say(f"{image.name}: pushed {repository}:{tag}")


def pull_image(client: DockerClient, image: ImageIdentity, registry: str) -> bool:
    """Get an image from a registry, if that has it, and give it its own name; say whether it did.

    The label that its build gave it must be the identity's digest: a name in a registry can be moved.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    repository, tag = remote_name(image, registry)
    try:
        pulled = client.images.pull(repository, tag=tag)
        if pulled.labels.get(DIGEST_LABEL) != image.digest:
            return False
        return bool(client.api.tag(pulled.id, *image.reference.split(":")))
    except (DockerException, RequestException):
        return False


def remote_name(image: ImageIdentity, registry: str) -> tuple[str, str]:
    """Return repository and tag of an image in a registry: `ghcr.io/owner/crossfarm-armv7`, `0123456789abcdef`."""
    repository, _, tag = image.reference.partition(":")
    return f"{registry}/{repository}", tag


def _login(registry: str) -> str:
    return f"see that the registry answers, and whether `docker login {registry.partition('/')[0]}` is needed"
