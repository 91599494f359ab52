"""What a backend is: a module that follows this Protocol. All of them stand in crossfarm.backends.BACKENDS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from crossfarm.bundles.order import BundleOrder
from crossfarm.config.base import Declared
from crossfarm.config.cell import Cell
from crossfarm.util.environments import ToolEnvironment


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackendDeclaration:
    """All that others treat a backend by. Mappings go from the name of a stage to what its jobs have on top for it.

    Attributes:
        section: the `code:` section of its toolchain files; every key of it is part of the keys of its cells.
        sources: what shapes the artifact, as in crossfarm.stages.protocol.Declaration; a change touches its own cells.
        tools: distributions whose version shapes the artifact.
        groups: names of parameter groups from this host: `tuning`, `cards`.
        preload: what a worker imports once, before the first job.
        environments: Python environments of tools that it calls; `setup` makes them, images bring them along.
        packages: Debian packages that its simulator needs; `setup` installs them.
        on_this_host: jobs of its cells run on this host, never in an image, because what it calls may not go into one.
        simulator: the module that runs its bundles on this host, where they are no programs of a processor; it follows
            crossfarm.boards.protocol.Simulator.
    """

    section: type[Declared]
    sources: Mapping[str, tuple[str, ...]]
    tools: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    preload: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    environments: tuple[ToolEnvironment, ...] = ()
    packages: tuple[str, ...] = ()
    on_this_host: bool = False
    simulator: str | None = None


class Backend(Protocol):
    """A compiler: makes a prepared model into code, and code into a bundle."""

    DECLARATION: BackendDeclaration

    def compile(
        self,
        *,
        cell: Cell,
        model: Path,
        code: Declared,
        output: Path,
        tuned: Mapping[str, Mapping[str, Any]] | None = None,
        calibration: Path | None = None,
    ) -> None:
        """Compile a model.

        Args:
            cell: names of what is built.
            model: an ONNX file with static shapes.
            code: the `code:` section, as DECLARATION.section.
            output: an empty folder, which becomes the artifact of the stage `compile`.
            tuned: layer -> choice that a search found, in place of the rules'; a backend without a search has none.
            calibration: the artifact of the stage `calibration`, to be read with crossfarm.bundles.calibration. Only a
                backend whose section says QUANTISES is handed it; others need not take it.

        Raises:
            ModelError: the model is at fault; the message says where.
            UnfitError: the model is sound and not for this target: too large, or with an operator that the target has
                not. The message has operator and node, or estimate and limit. The cell is skipped with that reason.
        """

    def bundle(self, order: BundleOrder, *, output: Path) -> None:
        """Link what `compile` wrote and put everything that a board and its users need into one folder.

        Args:
            order: what goes into it.
            output: an empty folder, which becomes the bundle.

        Raises:
            ToolError: the C compiler is missing or fails.
            BundleError: the two artifacts do not belong together.
        """
