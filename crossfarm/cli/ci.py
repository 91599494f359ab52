"""What CI servers type: the jobs of a run, the results of several machines as one, and what is wrong as annotations."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.errors import EXIT_GOOD, ConfigError


@verb(
    Option(name="json", help="show what GitHub's strategy.matrix takes, on one line", kind="flag"),
    Option(name="gitlab", help="show the jobs of a child pipeline of GitLab; see docs/ci.md", kind="flag"),
    *run_options("models", "pipeline", "only", "skip", "targets", "boards", "board", "tag"),
)
def matrix(given: Given) -> int:
    """Print the targets of a run, so that a CI server can give each a job of its own.

    With --boards only those that its boards serve, each with the labels of the runner that reaches them.

    Examples:
        ./inv matrix --json
        ./inv matrix --gitlab --pipeline smoke
        ./inv matrix --json --boards .github/boards.yaml
    """
    from crossfarm.pipeline import matrix as found
    from crossfarm.pipeline.declared import inventory_of, load
    from crossfarm.util.text import write

    if given["json"] and given["gitlab"]:
        raise ConfigError("--json and --gitlab: give one of them")
    wanted = options(given)
    project = load(wanted)
    asks_for_boards = bool(given["boards"] or given["board"] or given["tag"])
    entries = found.matrix(project, wanted.selection, inventory_of(wanted, project) if asks_for_boards else None)
    form = found.for_github if given["json"] else found.for_gitlab if given["gitlab"] else found.as_lines
    write(sys.stdout, form(entries))
    return EXIT_GOOD


@verb(
    Option(
        name="folders",
        help="folders with a results.jsonl each; in place of the option, they may stand behind the verb, with blanks",
        kind="list",
        required=True,
    ),
    *run_options("out", "store", "history"),
)
def merge(given: Given) -> int:
    """Merge the results of several machines into one run, write all its reports, and keep it in the history.

    It ends with 1 when a check failed on one of them, and with 3 when one left no results, was ended before its time,
    or had a fault of the infrastructure. What is missing, double, half written or of another version is told.

    Examples:
        ./inv merge parts/x86_64 parts/aarch64 parts/armv7
        ./inv merge parts/x86_64 parts/aarch64 --out merged --history history.db
    """
    from crossfarm.cli.merge_folders import merge_folders

    return merge_folders(given["folders"], options(given))


@verb(
    *run_options("out"),
    Option(name="root", help="folder of the repository that GitHub shows (GITHUB_WORKSPACE, else this folder)"),
)
def annotate(given: Given) -> int:
    """Print what is wrong in the last run as annotations of GitHub, at the lines of models.yaml; ten of a kind at most.

    Example: ./inv annotate --out out
    """
    import os

    from crossfarm.reports.annotations import commands
    from crossfarm.reports.run_view import overview
    from crossfarm.results import read_records
    from crossfarm.util.text import write

    root = Path(given["root"] or os.environ.get("GITHUB_WORKSPACE") or ".").resolve()
    seen = overview(read_records(options(given).out / "results.jsonl"))
    for line in commands(seen, root=root):
        write(sys.stdout, f"{line}\n")
    return EXIT_GOOD
