"""What users type to carry a model away: `bundle` and `package`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from crossfarm.cli.run_options import options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.errors import EXIT_GOOD, ConfigError

_CELL = Option(name="cell", help="id of the cell: armv7-mnist_cnn-float32", required=True)
_RUN = run_options("models", "pipeline", "store", "engine")


@verb(
    _CELL,
    Option(name="to", help="folder that the bundle is written to; it must not exist yet (one named like the cell)"),
    *_RUN,
)
def bundle(given: Given) -> int:
    """Make the bundle of one cell and copy it out of the store, to carry it to a board.

    Example: ./inv bundle armv7-mnist_cnn-float32 --to mnist
    """
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.make_cell import WHOLE_BUNDLE, make_cell
    from crossfarm.store.export import copy_artifacts
    from crossfarm.store.store import Store
    from crossfarm.util.text import write

    cell, folder = Cell.parse(given["cell"]), Path(given["to"] or given["cell"])
    if folder.exists():
        raise ConfigError(f"--to {folder}: exists already; name a folder that does not")
    wanted = options(given)
    code, artifacts = make_cell(wanted, cell, stages=WHOLE_BUNDLE)
    if code:
        return code
    parts = [artifacts[stage] for stage in WHOLE_BUNDLE]
    copy_artifacts(Store(wanted.store), parts, folder)
    count = sum(len(part.files) for part in parts)
    write(sys.stdout, f"{cell.id}: {count} files in {folder}; on the board: {folder.name}/program {folder.name}\n")
    return EXIT_GOOD


@verb(
    _CELL,
    Option(name="to", help="folder that wheel and tar.gz are written to (dist)", default="dist"),
    Option(
        name="release",
        help="version of the wheel: 1.2.0 (crossfarm's own, with the first digits of the build's identity)",
    ),
    *_RUN,
)
def package(given: Given) -> int:
    """Write a model as a wheel and as a tar.gz: a Python module that needs NumPy alone, and the whole bundle.

    Examples:
        ./inv package armv7-mnist_cnn-float32
        ./inv package aarch64-efficientnet_lite0-float32 --to packages --release 1.2.0
    """
    from crossfarm.bundles.packages.packages import check_names, write_packages
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.declared import load
    from crossfarm.pipeline.make_cell import WHOLE_BUNDLE, make_cell
    from crossfarm.store.export import copy_artifacts
    from crossfarm.store.store import Store
    from crossfarm.util.text import write

    cell, release = Cell.parse(given["cell"]), given["release"]
    check_names(cell.model, release)
    wanted = options(given)
    code, artifacts = make_cell(wanted, cell, stages=WHOLE_BUNDLE)
    if code:
        return code
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "bundle")
        copy_artifacts(Store(wanted.store), [artifacts[stage] for stage in WHOLE_BUNDLE], whole)
        machines = load(wanted).targets[cell.target].machine
        made = write_packages(whole, machines=machines, folder=Path(given["to"]), release=release)
    for path in (made.wheel, made.archive):
        write(sys.stdout, f"{path}: {path.stat().st_size / 1e6:.1f} MB\n")
    return EXIT_GOOD
