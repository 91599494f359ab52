"""What a bundle is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from crossfarm.config.cell import Cell
from crossfarm.config.models import Decode, Preprocess
from crossfarm.config.targets import CommandCompiler, ZigCompiler


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What models.yaml says about a model that its users want to know.

    Attributes:
        description: one line for people.
        licence: SPDX expression.
        inputs: names in the order of the declaration; data feeds the first that the compiled model has.
        preprocess: from raw data to that input.
        decode: what the first output means.
    """

    description: str
    licence: str
    inputs: tuple[str, ...]
    preprocess: Preprocess | None
    decode: Decode | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleOrder:
    """What a bundle is made of.

    Attributes:
        cell: names of what is built.
        about: what the users of the model want to know.
        compiler: the C compiler to link with.
        static: link programs statically, and make no shared library.
        compiled: artifact of the stage `compile`.
        reference: artifact of the stage `reference`, whose inputs and names go into the bundle.
        objects: artifact of the stage `runner`: what is compiled of those sources.
        runner: folder of the sources that run a model on a board.
    """

    cell: Cell
    about: About
    compiler: ZigCompiler | CommandCompiler
    static: bool
    compiled: Path
    reference: Path
    objects: Path
    runner: Path
