"""What users type to carry a model away: `bundle` and `package`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import HELP, finish, options
from crossfarm.errors import ConfigError

_CELL = {
    "cell": "id of the cell: armv7-mnist_cnn-float32",
    **{name: HELP[name] for name in ("models", "pipeline", "store", "engine")},
}


def _bundle(given: Mapping[str, Any], *, cell: str, folder: Path) -> int:
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.run import WHOLE_BUNDLE, make_cell
    from crossfarm.store.export import copy_artifacts
    from crossfarm.store.store import Store
    from crossfarm.util.text import write

    parsed = Cell.parse(cell)
    if folder.exists():
        raise ConfigError(f"--to {folder}: exists already; name a folder that does not")
    wanted = options(given)
    code, artifacts = make_cell(wanted, parsed, stages=WHOLE_BUNDLE)
    if code:
        return code
    parts = [artifacts[stage] for stage in WHOLE_BUNDLE]
    copy_artifacts(Store(wanted.store), parts, folder)
    count = sum(len(part.files) for part in parts)
    write(sys.stdout, f"{cell}: {count} files in {folder}; on the board: {folder.name}/program {folder.name}\n")
    return 0


def _package(given: Mapping[str, Any], *, cell: str, folder: Path, release: str) -> int:
    from crossfarm.bundles.packages.packages import check_names, write_packages
    from crossfarm.config.cell import Cell
    from crossfarm.pipeline.run import WHOLE_BUNDLE, load, make_cell
    from crossfarm.store.export import copy_artifacts
    from crossfarm.store.store import Store
    from crossfarm.util.text import write

    parsed = Cell.parse(cell)
    check_names(parsed.model, release)
    wanted = options(given)
    code, artifacts = make_cell(wanted, parsed, stages=WHOLE_BUNDLE)
    if code:
        return code
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch, "bundle")
        copy_artifacts(Store(wanted.store), [artifacts[stage] for stage in WHOLE_BUNDLE], bundle)
        machines = load(wanted).targets[parsed.target].machine
        made = write_packages(bundle, machines=machines, folder=folder, release=release)
    for path in (made.wheel, made.archive):
        write(sys.stdout, f"{path}: {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


@task(help={**_CELL, "to": "folder that the bundle is written to; it must not exist yet (one named like the cell)"})
def bundle(
    context: Context,
    cell: str,
    to: str = "",
    models: str = "",
    pipeline: str = "default",
    store: str = "",
    engine: str = "auto",
) -> None:
    """Make the bundle of one cell and copy it out of the store, to carry it to a board.

    Example: ./inv bundle armv7-mnist_cnn-float32 --to mnist
    """
    given = {"models": models, "pipeline": pipeline, "store": store, "engine": engine}
    finish(lambda: _bundle(given, cell=cell, folder=Path(to or cell)))


@task(
    help={
        **_CELL,
        "to": "folder that wheel and tar.gz are written to (dist)",
        "release": "version of the wheel: 1.2.0 (crossfarm's own, with the first digits of the build's identity)",
    }
)
def package(
    context: Context,
    cell: str,
    to: str = "dist",
    release: str = "",
    models: str = "",
    pipeline: str = "default",
    store: str = "",
    engine: str = "auto",
) -> None:
    """Write a model as a wheel and as a tar.gz: a Python module that needs NumPy alone, and the whole bundle.

    Examples:
        ./inv package armv7-mnist_cnn-float32
        ./inv package aarch64-efficientnet_lite0-float32 --to packages --release 1.2.0
    """
    given = {"models": models, "pipeline": pipeline, "store": store, "engine": engine}
    finish(lambda: _package(given, cell=cell, folder=Path(to), release=release))
