"""`./inv clean`: what has grown goes."""

from __future__ import annotations

import sys

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.errors import ConfigError
from crossfarm.util.paths import HOME


@verb(
    *run_options("models", "store", "out"),
    Option(
        name="older_than",
        help="artifacts and compiler cache unused for so many days go; of images, only older ones",
        kind="number",
    ),
    Option(
        name="larger_than",
        help="the least recently used artifacts go until the store holds at most so many MiB",
        kind="number",
    ),
    Option(name="verify", help="read every object and drop what is damaged", kind="flag"),
    Option(
        name="images",
        help="container images of crossfarm that no file names any more and no container uses go",
        kind="flag",
    ),
    Option(name="everything", help="remove the store, the compiler's cache and the reports", kind="flag"),
    Option(name="dry_run", help="only say what would go", kind="flag"),
)
def clean(given: Given) -> int:
    """Remove what nothing names or owns any more; with options also old artifacts and images, or everything.

    Examples:
        ./inv clean --older-than 30
        ./inv clean --larger-than 2000 --verify
        ./inv clean --images --dry-run
    """
    from crossfarm.pipeline.declared import load
    from crossfarm.setup.cleaning import CleanedPlaces, CleanRequest, clean_up

    wanted = options(given)
    request = CleanRequest(
        days=given["older_than"],
        mebibytes=given["larger_than"],
        verify=given["verify"],
        images=given["images"],
        everything=given["everything"],
        dry_run=given["dry_run"],
    )
    try:
        project = load(wanted)
    except ConfigError as error:
        sys.stdout.write(f"clean: logs are left alone, because what is declared cannot be read: {error}\n")
        project = None
    return clean_up(request, CleanedPlaces(store=wanted.store, out=wanted.out, home=HOME, project=project))
