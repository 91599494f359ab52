"""What the options of a run declare: the project with its pipeline, and the boards."""

from __future__ import annotations

from pathlib import Path

from crossfarm.backends.project_files import load_project
from crossfarm.boards.inventory import Inventory, load_inventory
from crossfarm.config.project import Project
from crossfarm.errors import ConfigError, nearest
from crossfarm.pipeline.options import Options
from crossfarm.util.paths import HOME


def load(options: Options) -> Project:
    """Load the project that the options name.

    Raises:
        ConfigError: something is declared wrongly, or a file is missing.
    """
    name = options.pipeline
    path = pipeline_file(options)
    if not path.exists() and not options.pipeline_is_path:
        known = sorted(file.stem for file in (HOME / "pipelines").glob("*.yaml"))
        raise ConfigError(
            f"--pipeline {name}: there is no such file in pipelines/{nearest(name, known)}; "
            f"give one of {', '.join(known)}, or the path of a file NAME.yaml"
        )
    return load_project(models=options.models, toolchains=HOME / "toolchains", pipeline=path)


def inventory_of(options: Options, project: Project) -> Inventory:
    """Return the boards that the options choose.

    Raises:
        ConfigError: boards.yaml is wrong, or the options name a board or tag that is not in it.
    """
    return load_inventory(
        options.boards_file,
        default=HOME / "boards.yaml",
        targets=project.targets,
        boards=options.boards,
        tags=options.tags,
    )


def declared_files(options: Options) -> tuple[Path, ...]:
    """Return the files that declare a run; those of the boards need not be there."""
    return options.models, pipeline_file(options), options.boards_file or HOME / "boards.yaml"


def pipeline_file(options: Options) -> Path:
    """Return the file of the pipeline that the options name; it need not be there."""
    return Path(options.pipeline) if options.pipeline_is_path else HOME / "pipelines" / f"{options.pipeline}.yaml"
