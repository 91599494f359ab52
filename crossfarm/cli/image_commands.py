"""What `./inv images` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from crossfarm.backends.project_files import load_targets
from crossfarm.config.targets import Target
from crossfarm.errors import EXIT_GOOD, ConfigError, nearest
from crossfarm.images.ensure import BuildOptions, supply_images, update_lock
from crossfarm.images.identity import BASE
from crossfarm.images.registry import checked_registry, push_images
from crossfarm.util.console import Console
from crossfarm.util.paths import HOME


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesRequest:
    """What a user asked for.

    Attributes:
        targets: names of targets; none means all.
        push: registry to push to; empty for none, and so is `pull`.
        pull: registry to ask before building.
        bootstrap: make Debian here.
        update_lock: pin Debian anew.
    """

    targets: tuple[str, ...] = ()
    push: str = ""
    pull: str = ""
    bootstrap: bool = False
    update_lock: bool = False


def run_images(
    request: ImagesRequest, *, console: Console, home: Path = HOME, answer: Callable[[object], object] | None = None
) -> int:
    """Build the images of targets that the engine lacks, and push them when asked.

    Args:
        request: what the user asked for.
        console: where is said what is done.
        home: the project's folder.
        answer: takes name and reference of each image, as JSON takes them.

    Returns:
        0; whatever fails is raised.

    Raises:
        ConfigError: a target does not exist, or what makes its image cannot be used.
        ToolError: a build fails.
        EngineError: no engine or registry answers.
    """
    names = image_names(load_targets(home / "toolchains"), request.targets)
    terms = BuildOptions(
        may_bootstrap=request.bootstrap,
        bootstrap_now=request.bootstrap,
        registry=checked_registry(request.pull) if request.pull else "",
    )
    registry = checked_registry(request.push) if request.push else ""

    def say(text: str) -> None:
        console.line(f"images: {text}")

    if request.update_lock:
        update_lock(home, say=say)
    images = supply_images(home, names, terms=terms, say=say)
    if registry:
        push_images(images.values(), registry, say=say)
    for image in images.values():
        console.line(f"{image.name:<12} {image.reference}")
    if answer is not None:
        answer({"images": {image.name: image.reference for image in images.values()}})
    return EXIT_GOOD


def image_names(targets: Mapping[str, Target], chosen: tuple[str, ...]) -> list[str]:
    """Return the names of the images that targets need, and always the base's.

    Args:
        targets: all that there are, by name.
        chosen: names of targets; none means all.

    Raises:
        ConfigError: a target does not exist.
    """
    for name in chosen:
        if name not in targets:
            raise ConfigError(
                f"--targets {name}: there is no toolchains/{name}.yaml{nearest(name, targets)}; "
                f"known targets: {', '.join(sorted(targets))}"
            )
    images = {targets[name].image for name in chosen or targets}
    return [BASE, *sorted(image for image in images if image)]
