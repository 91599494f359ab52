"""`./inv images`: the container images that jobs run in."""

from __future__ import annotations

import sys

from crossfarm.cli.verbs import JSON, Given, Option, verb


@verb(
    Option(name="targets", help="names of targets, separated by commas (all of toolchains/)", kind="list"),
    Option(name="push", help="registry to push the images to, with a folder in it: ghcr.io/owner"),
    Option(name="pull", help="registry that is asked for images before they are built"),
    Option(
        name="bootstrap",
        help="make the Debian below the images on this machine, with mmdebstrap, in place of a registry's",
        kind="flag",
    ),
    Option(
        name="update_lock",
        help="pin the content that the Debian's tag has in its registry today, in images.lock",
        kind="flag",
    ),
    JSON,
)
def images(given: Given) -> int:
    """Build the container images of targets that the engine lacks, each after its base.

    Examples:
        ./inv images --targets armv7,aarch64
        ./inv images --bootstrap
        ./inv images --push ghcr.io/owner
    """
    from crossfarm.cli.image_commands import ImagesRequest, run_images
    from crossfarm.util.console import Console

    asked = {name: value for name, value in given.items() if name != JSON.name}
    answer = given["json"].write_object if given["json"] else None
    return run_images(ImagesRequest(**asked), console=Console(sys.stdout), answer=answer)
