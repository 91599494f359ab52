"""What a bundle is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from crossfarm.config.cell import Cell
from crossfarm.config.targets import CommandCompiler, ZigCompiler

LINKED_SOURCES = (
    "crossfarm/bundles/make.py",
    "crossfarm/bundles/linking/",
    "runner/library/",
    "runner/program/",
    "runner/server/",
)
"""What shapes a bundle that `crossfarm.bundles.make` links, for the sources of a backend that calls it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linking:
    """How the programs and libraries of a bundle are linked.

    Attributes:
        compiler: the C compiler.
        static: link programs statically, and make no shared library.
        objects: artifact of the stage `runner`: what is compiled of those sources.
        runner: folder of the sources that run a model on a board.
    """

    compiler: ZigCompiler | CommandCompiler
    static: bool
    objects: Path
    runner: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleOrder:
    """What a bundle is made of.

    Attributes:
        cell: names of what is built.
        compiled: artifact of the stage `compile`.
        reference: artifact of the stage `reference`, whose inputs and names go into the bundle.
        linking: None where the toolchain file declares no C compiler, and for a processor without an operating system.
        compiler: the C compiler of the toolchain file; None where it declares none.
    """

    cell: Cell
    compiled: Path
    reference: Path
    linking: Linking | None
    compiler: ZigCompiler | CommandCompiler | None = None
