"""Which engine the jobs of a run go to, and the images that they need there.

Whether jobs run in containers is part of their keys, so it is settled before anything is planned, and alike by
every command: `./inv plan` tells what `./inv pipeline` does. Images are made only when a job is to run in one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from crossfarm.config.project import Project
from crossfarm.engines.container.limits import limits_for
from crossfarm.engines.deferred import DeferredEngine
from crossfarm.engines.protocol import Engine
from crossfarm.errors import ConfigError, CrossfarmError, EngineError, nearest
from crossfarm.images.identity import BASE, ImageIdentity, identities
from crossfarm.pipeline.options import ENGINES, Options
from crossfarm.stages.job import HOST
from crossfarm.util.docker import Daemon, find_daemon
from crossfarm.util.files import write_json
from crossfarm.util.paths import HOME
from crossfarm.util.text import one_line

_NOTE = "no-images.json"
"""In the store: images that could not be made, and why, so that not every run tries it again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """Where the jobs of a run go.

    Attributes:
        daemon: the container engine; None where all jobs run on this host.
        images: by name; empty where all jobs run on this host.
        said: one line for the user; empty where the user chose.
        problem: why no container engine answers, where that was asked; None otherwise.
    """

    daemon: Daemon | None = None
    images: Mapping[str, ImageIdentity] = dataclasses.field(default_factory=dict)
    said: str = ""
    problem: str | None = None

    @property
    def references(self) -> dict[str, str]:
        """Return digest -> what the container engine calls the image."""
        return {image.digest: image.reference for image in self.images.values()}


def choose_engine(options: Options, project: Project) -> EngineChoice:
    """Return where the jobs of a run go. Nothing is built or started.

    Args:
        options: says what the user wants: `auto`, `container` or `local`.
        project: whose targets name images.

    Raises:
        ConfigError: there is no such engine, or a Dockerfile is missing.
        EngineError: the user wants containers, and no container engine answers.
    """
    if options.engine not in ENGINES:
        raise ConfigError(
            f"--engine {options.engine}: there is no such engine{nearest(options.engine, ENGINES)}; "
            f"give {', '.join(ENGINES[:-1])} or {ENGINES[-1]}"
        )
    if options.engine == "local":
        return EngineChoice()
    daemon = find_daemon()
    if options.engine == "container":
        if daemon.problem:
            raise EngineError(
                f"--engine container: {daemon.problem}; start one (./inv setup does, as root on Debian), or give "
                "--engine local"
            )
        return EngineChoice(daemon=daemon, images=_images(project))
    if daemon.problem:
        return EngineChoice(said=f"engine: local, because {daemon.problem}", problem=daemon.problem)
    images = _images(project)
    why = _could_not_be_made(options.store, images)
    if why and _missing(images):
        return EngineChoice(
            said=f"engine: local, because images could not be made ({why}); ./inv images tries it again"
        )
    return EngineChoice(daemon=daemon, images=images, said="engine: containers, because a container engine answers")


def supply(choice: EngineChoice, needed: Iterable[str], *, say: Callable[[str], None]) -> None:
    """Make the images that the jobs of a run need and the container engine lacks.

    Args:
        choice: where jobs go.
        needed: digests of images; HOST stands for none.
        say: takes lines about the progress.

    Raises:
        EngineError: an image cannot be built, or the container engine does not answer.
    """
    wanted = set(needed) - {HOST}
    names = [name for name, image in choice.images.items() if image.digest in wanted]
    if names and _missing({name: choice.images[name] for name in names}):
        from crossfarm.images.ensure import supply_images

        made = supply_images(HOME, names, say=say)
        changed = [name for name in names if made[name].digest != choice.images[name].digest]
        if changed:
            raise EngineError(f"the Debian below the images was made anew meanwhile ({', '.join(changed)}); run again")


def image_of_target(
    options: Options, project: Project, target: str, *, say: Callable[[str], None]
) -> tuple[Daemon, str]:
    """Return the container engine, and the image of a target by the name that the engine knows, made when it lacks it.

    Raises:
        ConfigError: there is no such target.
        ToolError: the image cannot be built.
        EngineError: no container engine answers.
    """
    if target not in project.targets:
        raise ConfigError(
            f"--target {target}: there is no toolchains/{target}.yaml{nearest(target, project.targets)}; "
            f"known targets: {', '.join(sorted(project.targets))}"
        )
    choice = choose_engine(dataclasses.replace(options, engine="container"), project)
    image = choice.images[project.targets[target].image or BASE]
    supply(choice, [image.digest], say=say)
    if choice.daemon is None:
        raise EngineError(f"no container engine for the image {image.name}; ./inv setup starts one")
    return choice.daemon, image.reference


def start_engine(
    choice: EngineChoice, options: Options, *, places: int, run: str, work: Path, environment: Mapping[str, str]
) -> Engine:
    """Return the engine of a run; it starts what it needs when the first job comes.

    Args:
        choice: where jobs go.
        options: how many run at once on this host, and with how much memory.
        places: how many run at once, those counted that run on boards.
        run: id of the run.
        work: the run's work folder.
        environment: variables for jobs on this host. Those in containers are told the commit and no more.

    Raises:
        ConfigError: a job could not even start with the memory that the user gives it.
    """
    limits = limits_for(slots=options.slots, memory_gib=options.memory)

    def start() -> Engine:
        if choice.daemon is None:
            from crossfarm.engines.local import LocalEngine
            from crossfarm.engines.run_job import MEMORY

            memory = limits_for(slots=1, memory_gib=options.memory).memory
            return LocalEngine(environment={**environment, MEMORY: str(memory)})
        from crossfarm.engines.container.engine import ContainerEngine

        return ContainerEngine(
            daemon=choice.daemon,
            images=choice.references,
            slots=places,
            limits=limits,
            run=run,
            work=work,
            home=HOME,
            environment={name: value for name, value in environment.items() if name.startswith("CROSSFARM_")},
            host_environment=environment,
        )

    return DeferredEngine(start)


def local_instead(options: Options, choice: EngineChoice, error: CrossfarmError) -> EngineChoice:
    """Return the choice of a run whose images cannot be made, and note it for the runs after it."""
    why = one_line(str(error).partition("\n")[0], limit=200)
    with contextlib.suppress(OSError):
        note = {"images": sorted(choice.references), "why": why}
        write_json(options.store / _NOTE, note)
    return EngineChoice(said=f"engine: local, because images could not be made ({why})")


def _images(project: Project) -> Mapping[str, ImageIdentity]:
    return identities(HOME, {BASE, *(target.image for target in project.targets.values() if target.image)})


def _missing(images: Mapping[str, ImageIdentity]) -> bool:
    from crossfarm.images.ensure import missing_images

    return bool(missing_images(images))


def _could_not_be_made(store: Path, images: Mapping[str, ImageIdentity]) -> str:
    """Return why these very images could not be made earlier; empty where nobody tried."""
    try:
        note = json.loads((store / _NOTE).read_text(encoding="utf-8"))
        if note["images"] == sorted(image.digest for image in images.values()):
            return str(note["why"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""
