"""What a bundle is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from crossfarm.config.cell import Cell
from crossfarm.config.targets import CommandCompiler, ZigCompiler


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleOrder:
    """What a bundle is made of.

    Attributes:
        cell: names of what is built.
        compiler: the C compiler to link with.
        static: link programs statically, and make no shared library.
        compiled: artifact of the stage `compile`.
        reference: artifact of the stage `reference`, whose inputs and names go into the bundle.
        objects: artifact of the stage `runner`: what is compiled of those sources.
        runner: folder of the sources that run a model on a board.
    """

    cell: Cell
    compiler: ZigCompiler | CommandCompiler
    static: bool
    compiled: Path
    reference: Path
    objects: Path
    runner: Path
