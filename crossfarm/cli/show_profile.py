"""`./inv profile`: runs one bundle call by call, and prints and draws where its time and, for int8, accuracy goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO

from crossfarm.boards.transports import local
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target
from crossfarm.errors import ConfigError
from crossfarm.store.store import Artifact, Store
from crossfarm.tuning.layer_times import run_profiled, summarised
from crossfarm.tuning.losses import accuracy
from crossfarm.tuning.peak import measured_peak
from crossfarm.tuning.profile_table import plot, table
from crossfarm.util import sandbox
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.text import write


def show_profile(
    cell: Cell,
    *,
    target: Target,
    store: Path,
    artifacts: Mapping[str, Artifact],
    threads: int,
    repeat: int,
    picture: Path | None,
    stream: IO[str],
) -> None:
    """Profile a bundle on this host, natively or under the target's emulator, and print the table.

    For int8 it also prints what quantising lost in each layer, and what is left after each step.

    Args:
        cell: the cell.
        target: of the cell.
        store: folder of the store.
        artifacts: the cell's, by stage: `compile`, `bundle`, and for int8 `quantize`.
        threads: of the model.
        repeat: profiled runs.
        picture: where to draw it; None draws nothing.
        stream: where the table goes.

    Raises:
        ConfigError: a number or the name of the picture cannot be used.
        BoardError: the target's code does not run here.
        StoreError: an artifact is damaged.
    """
    if threads < 1 or repeat < 1:
        raise ConfigError(f"--threads {threads} --repeat {repeat}: give 1 or more")
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise ConfigError(f"--plot {picture}: give a name that ends in .svg or .html")
    way = local.execution_mode(machines=target.machine, emulator=target.emulator, code=target.instructions)
    place = Store(store.absolute())
    report = CompileReport.read(place.file_path(artifacts["compile"], "compile.json"))
    if line := sandbox.warning():
        stream.write(f"{line}\n")
    with scratch_folder("profile") as folder:
        place.restore(artifacts["bundle"], Path(folder))
        run = run_profiled(Path(folder), threads=threads, repeat=repeat, prefix=way.prefix)
    peak = measured_peak(target) if way.timing == "silicon" else None
    profile = summarised(run, report, threads=threads, timing=way.timing, peak=peak)
    write(stream, table(cell.id, profile) + accuracy(cell, store=place, artifacts=artifacts))
    if picture is not None:
        plot(cell.id, profile, picture)
        write(stream, f"drawn in {picture}\n")
