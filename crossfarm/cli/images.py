"""`./inv images`: the container images that jobs run in."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import finish


@task(
    help={
        "targets": "names of targets, separated by commas (all of toolchains/)",
        "push": "registry to push the images to, with a folder in it: ghcr.io/owner",
        "pull": "registry that is asked for images before they are built",
        "bootstrap": "make the Debian below the images on this machine, with mmdebstrap, in place of a registry's",
        "update_lock": "pin the content that the Debian's tag has in its registry today, in images.lock",
    }
)
def images(
    context: Context,
    targets: str = "",
    push: str = "",
    pull: str = "",
    bootstrap: bool = False,
    update_lock: bool = False,
) -> None:
    """Build the container images of targets that the engine lacks, each after its base.

    Examples:
        ./inv images --targets armv7,aarch64
        ./inv images --bootstrap
        ./inv images --push ghcr.io/owner
    """

    def action() -> int:
        from crossfarm.cli.image_commands import Wishes, run_images
        from crossfarm.util.console import Console

        wishes = Wishes(
            targets=tuple(part.strip() for part in targets.split(",") if part.strip()),
            push=push,
            pull=pull,
            bootstrap=bootstrap,
            update_lock=update_lock,
        )
        return run_images(wishes, console=Console(sys.stdout))

    finish(action)
