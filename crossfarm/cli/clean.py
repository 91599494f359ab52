"""`./inv clean`: what has grown goes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import HELP, finish, number, options
from crossfarm.errors import ConfigError
from crossfarm.util.paths import HOME


@task(
    help={
        "models": HELP["models"],
        "store": HELP["store"],
        "out": HELP["out"],
        "older_than": "artifacts and compiler cache unused for so many days go; of images, only older ones",
        "larger_than": "the least recently used artifacts go until the store holds at most so many MiB",
        "verify": "read every object and drop what is damaged",
        "images": "container images of crossfarm that no file names any more and no container uses go",
        "everything": "remove the store, the compiler's cache and the reports",
        "dry_run": "only say what would go",
    }
)
def clean(
    context: Context,
    models: str = "",
    store: str = "",
    out: str = "",
    older_than: str = "",
    larger_than: str = "",
    verify: bool = False,
    images: bool = False,
    everything: bool = False,
    dry_run: bool = False,
) -> None:
    """Remove what nothing names or owns any more; with options also old artifacts and images, or everything.

    Examples:
        ./inv clean --older-than 30
        ./inv clean --larger-than 2000 --verify
        ./inv clean --images --dry-run
    """
    given = {"models": models, "store": store, "out": out}
    finish(
        lambda: _clean(
            given,
            {
                "days": number("older_than", older_than) if older_than else None,
                "mebibytes": number("larger_than", larger_than) if larger_than else None,
                "verify": verify,
                "images": images,
                "everything": everything,
                "dry_run": dry_run,
            },
        )
    )


def _clean(given: Mapping[str, Any], wishes: Mapping[str, Any]) -> int:
    from crossfarm.pipeline.run import load
    from crossfarm.setup.cleaning import Ground, Wishes, clean

    wanted = options(given)
    try:
        project = load(wanted)
    except ConfigError as error:
        sys.stdout.write(f"clean: logs are left alone, because what is declared cannot be read: {error}\n")
        project = None
    return clean(Wishes(**wishes), Ground(store=wanted.store, out=wanted.out, home=HOME, project=project))
