"""What users type to see, carry, shrink and compare results of many runs."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import JSON, Given, Option, verb
from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_GOOD, ConfigError, nearest

_PLACE = run_options("history")


@verb(
    Option(name="model", help="name of the model", required=True),
    Option(name="target", help="names of targets, separated by commas (all)", kind="list"),
    Option(name="metric", help="name of the number (latency.p50)", default="latency.p50"),
    Option(name="last", help="how many runs (30)", kind="count", default="30"),
    JSON,
    *_PLACE,
)
def history(given: Given) -> int:
    """Print how a number of a model went over the last runs, cell by cell and board by board, and where it changed.

    Examples:
        ./inv history mnist_cnn
        ./inv history mnist_cnn x86_64 --metric program
    """
    from crossfarm.cli.history_commands import open_history
    from crossfarm.reports.regression import trend
    from crossfarm.util.text import write

    model, metric = given["model"], given["metric"]
    with open_history(given) as kept:
        runs = kept.of_model(model, targets=given["target"], metric=metric, runs=given["last"] or 30)
        if not runs and model not in (models := kept.models()):
            raise ConfigError(f"{model}: the history has no such model{nearest(model, models)}")
        if not runs:
            names = kept.metrics(model)
            hint = nearest(metric, names) or f"; it has {', '.join(names) or 'no numbers'}"
            raise ConfigError(f"{model}: the history has no {metric} of it{hint}")
    found = trend.series_of(runs, metric)
    if given["json"]:
        given["json"].write(trend.as_json(found))
    else:
        write(sys.stdout, trend.as_text(found))
    return EXIT_GOOD


@verb(Option(name="file", help="a results.jsonl, or the file of another history", required=True), *_PLACE)
def history_import(given: Given) -> int:
    """Add the runs of a results file or of another history; those that are there already stay as they are.

    Examples:
        ./inv history import out/results.jsonl
        ./inv history import from-the-other-farm.db
    """
    from crossfarm.cli.history_commands import open_history
    from crossfarm.reports.history.transfer import import_file
    from crossfarm.util.text import count, write

    with open_history(given, make=True) as kept:
        done = import_file(kept, Path(given["file"]))
        place = kept.place.shown
    for line in done.told:
        write(sys.stderr, f"{line}\n")
    write(sys.stdout, f"{place}: {count(done.added, 'run')} added, {done.known} known already\n")
    return EXIT_GOOD


@verb(Option(name="file", help="the file that is written; one that is there is replaced", required=True), *_PLACE)
def history_export(given: Given) -> int:
    """Write the whole history into one SQLite file, to carry it away; `history import` reads it.

    Example: ./inv history export history.db --history postgresql://farm@db.example/results
    """
    from crossfarm.cli.history_commands import open_history
    from crossfarm.reports.history.transfer import export
    from crossfarm.util.text import count, write

    with open_history(given) as kept:
        runs = export(kept, Path(given["file"]))
    write(sys.stdout, f"{given['file']}: {count(runs, 'run')}\n")
    return EXIT_GOOD


@verb(
    Option(name="keep_days", help="runs of so many days stay", kind="number"),
    Option(name="keep_runs", help="the newest so many runs stay", kind="count"),
    *_PLACE,
)
def history_prune(given: Given) -> int:
    """Delete old runs from the history, and give their room back.

    Examples:
        ./inv history prune --keep-days 90
        ./inv history prune --keep-days 30 --keep-runs 100
    """
    from crossfarm.cli.history_commands import open_history
    from crossfarm.reports.history.transfer import prune
    from crossfarm.util.text import count, write

    with open_history(given) as kept:
        deleted = prune(kept, keep_days=given["keep_days"], keep_runs=given["keep_runs"])
        place = kept.place.shown
    write(sys.stdout, f"{place}: {count(deleted, 'run')} deleted\n")
    return EXIT_GOOD


@verb(
    Option(
        name="old",
        help="what is compared with: id of a run or its beginning, a results.jsonl, a git revision; `previous`; or "
        "`baseline`: the last 12 runs before, board by board",
        required=True,
    ),
    Option(name="new", help="what is compared: likewise, or `latest`", required=True),
    Option(name="markdown", help="show Markdown", kind="flag"),
    JSON,
    Option(name="all", help="show what is unchanged or inconclusive too", kind="flag"),
    Option(
        name="confirm",
        help="measure both bundles in turns on their board where the latency looks worse, while it does nothing else",
        kind="flag",
    ),
    Option(
        name="write",
        help="folder of the new run's reports: comparison.json and comparison.md are written there, and into its badge "
        "how much regressed",
    ),
    *_PLACE,
    *run_options("store", "models", "pipeline", "boards", "priority"),
)
def compare(given: Given) -> int:
    """Compare two runs: what regressed, improved, is new, is missing, fails or passes newly; the worst first.

    It ends with 1 when a check fails newly or something regressed. A latency that looks worse is `unconfirmed`, and
    does not count, until --confirm has measured both bundles in turns.

    Examples:
        ./inv compare baseline latest
        ./inv compare 20261130T120000 20261201T120000 --markdown
        ./inv compare main out/results.jsonl --confirm
        ./inv compare previous latest --confirm --boards boards.yaml
        ./inv compare baseline latest --write out
    """
    from crossfarm.cli.history_commands import compare_by_name, write_comparison
    from crossfarm.reports.regression import comparison_text as text
    from crossfarm.util.text import write

    found = compare_by_name(given, options(given))
    if given["write"]:
        write_comparison(Path(given["write"]), found, everything=given["all"])
    if given["json"]:
        given["json"].write(text.as_json(found))
    else:
        as_text = text.as_markdown if given["markdown"] else text.as_table
        write(sys.stdout, as_text(found, everything=given["all"]))
    return EXIT_CHECK_FAILED if found.gates else EXIT_GOOD
