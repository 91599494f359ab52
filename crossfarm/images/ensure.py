"""Sees that an engine has the images of some targets: the one way in for whoever needs images."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.errors import ConfigError, EngineError
from crossfarm.images.build import Recipe, Say, build, one_at_a_time
from crossfarm.images.debian_base import bootstrap
from crossfarm.images.identity import ImageIdentity, context, identities
from crossfarm.images.lock import LOCK, OWN_LOCK, Pin, pinned_base, write_pin
from crossfarm.images.registry import DIGEST_LABEL, pull_image
from crossfarm.images.site_settings import site_context, site_reference, this_site
from crossfarm.util import docker as engine
from crossfarm.util.progress import duration

if TYPE_CHECKING:
    from docker import DockerClient

IMAGE_LABEL = "crossfarm.image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How images may be come by.

    Attributes:
        may_bootstrap: Debian may be made here when it cannot be had from its registry.
        bootstrap_now: make it here even if a registry has it.
        registry: asked for an image before it is built; empty for none.
    """

    may_bootstrap: bool = False
    bootstrap_now: bool = False
    registry: str = ""


def missing_images(wanted: Mapping[str, ImageIdentity]) -> list[ImageIdentity]:
    """Return the images that the engine lacks, each after its base.

    Raises:
        EngineError: no engine answers.
    """
    present = engine.present_references()
    return [image for image in wanted.values() if image.reference not in present]


def supply_images(
    root: Path, names: Iterable[str], *, say: Say, terms: BuildOptions | None = None
) -> Mapping[str, ImageIdentity]:
    """Build what the engine lacks of these images and the ones below them.

    Args:
        root: the project's folder.
        names: of images, as toolchain files say under `image`.
        say: takes lines about the progress.
        terms: how they may be come by; None allows building alone.

    Returns:
        the images by name, each after its base. The base's digest, and so all others, are not what `identities` said
        before when Debian was made anew.

    Raises:
        ToolError: a build or the bootstrap fails.
        EngineError: no engine answers, or Debian can be had from nowhere.
        ConfigError: as in `identities`.
    """
    names, terms = tuple(names), terms or BuildOptions()
    wanted = identities(root, names)
    if not terms.bootstrap_now and not missing_images(wanted):
        return wanted
    with one_at_a_time(say) as lock, contextlib.closing(engine.client()) as client:
        if not terms.bootstrap_now:
            _pull_missing(client, wanted, terms.registry, say=say)
            if not missing_images(wanted):
                return wanted
        pin = base_pin(client, root, terms=terms, lock=lock, say=say)
        wanted = identities(root, names)
        missing = missing_images(wanted)
        below = _on_this_site(client, root, pin, say=say) if any(image.base is None for image in missing) else ""
        for image in missing:
            started = time.monotonic()
            recipe = Recipe(
                name=image.name,
                reference=image.reference,
                files=context(root, image.name),
                base=wanted[image.base].reference if image.base else below,
                labels={IMAGE_LABEL: image.name, DIGEST_LABEL: image.digest},
            )
            build(client, recipe, log=_log(root, image.name), say=say)
            say(f"{image.name}: built {image.reference} in {duration(time.monotonic() - started)}")
    return wanted


def supply_base(root: Path, *, terms: BuildOptions, say: Say) -> Pin:
    """See that the engine has the Debian below the images, unless it has the base image, which holds it.

    Args:
        root: the project's folder.
        terms: whether it may be made here.
        say: takes lines about the progress.

    Returns:
        the Debian that counts on this machine from now on.

    Raises:
        as `supply_images`.
    """
    if not missing_images(identities(root, ())):
        return pinned_base(root)
    with one_at_a_time(say) as lock, contextlib.closing(engine.client()) as client:
        return base_pin(client, root, terms=terms, lock=lock, say=say)


def base_pin(client: DockerClient, root: Path, *, terms: BuildOptions, lock: int, say: Say) -> Pin:
    """Return the Debian that the images are built on, which the engine has from now on.

    Args:
        client: docker-py's.
        root: the project's folder.
        terms: whether it may be made here.
        lock: descriptor of the lock that the caller holds.
        say: takes lines about the progress.

    Raises:
        EngineError: its registry does not answer, and it may not be made here.
        ToolError: it cannot be made here.
    """
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    pin = pinned_base(root)
    try:
        if pin.is_own or not terms.bootstrap_now:
            client.images.get(pin.reference)
            return pin
    except ImageNotFound:
        pass
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"{pin.reference}: cannot be asked for: {engine.said(error)}; see that the engine runs"
        ) from error
    if pin.is_own or terms.bootstrap_now:
        return bootstrap(root, lock=lock, say=say)
    say(f"getting {pin.name}:{pin.tag} from its registry")
    try:
        client.images.pull(pin.name, tag=pin.digest)
    except (DockerException, RequestException) as error:
        if terms.may_bootstrap:
            say("no registry answers, so a Debian made on this machine is taken")
            return bootstrap(root, lock=lock, say=say)
        raise EngineError(
            f"{pin.reference}: cannot be had from its registry: {engine.said(error)}\n\nWhere no registry can be "
            "reached, ./inv images --bootstrap makes Debian on this machine"
        ) from error
    return pin


def update_lock(root: Path, *, say: Say) -> None:
    """Pin the content that the base's tag has in its registry today; a Debian made here counts no more.

    Raises:
        EngineError: the registry does not answer.
        ConfigError: images.lock cannot be used.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    own = root / OWN_LOCK
    if not (root / LOCK).exists():
        raise ConfigError(f"{LOCK}: is missing; get the file back from the repository")
    pin = pinned_base(root, own=False)
    try:
        with contextlib.closing(engine.client()) as client:
            data = client.images.get_registry_data(f"{pin.name}:{pin.tag}")
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"{pin.name}:{pin.tag}: its registry does not answer: {engine.said(error)}; images.lock stays as it is"
        ) from error
    own.unlink(missing_ok=True)
    if data.id == pin.digest:
        say(f"{LOCK}: {pin.name}:{pin.tag} has not changed")
        return
    write_pin(root / LOCK, Pin(name=pin.name, digest=data.id, tag=pin.tag))
    say(f"{LOCK}: {pin.name}:{pin.tag} is now {data.id}")


def _pull_missing(client: DockerClient, wanted: Mapping[str, ImageIdentity], registry: str, *, say: Say) -> None:
    for image in missing_images(wanted) if registry else ():
        if pull_image(client, image, registry):
            say(f"{image.name}: got {image.reference} from {registry}")


def _on_this_site(client: DockerClient, root: Path, pin: Pin, *, say: Say) -> str:
    """Return the image that stands for BASE_IMAGE: the Debian, or the site's own on top of it."""
    site = this_site(say=say)
    if not site:
        return pin.reference
    reference = site_reference(site, base=pin.digest)
    if reference in engine.present_references():
        return reference
    say(f"site: putting {len(site.certificates)} certificates and the settings of pip and apt on top of Debian")
    labels = {IMAGE_LABEL: "site"}
    recipe = Recipe(name="site", reference=reference, files=site_context(site), base=pin.reference, labels=labels)
    build(client, recipe, log=_log(root, "site"), say=say)
    return reference


def _log(root: Path, name: str) -> Path:
    return root / ".crossfarm" / "images" / f"{name}.log"
