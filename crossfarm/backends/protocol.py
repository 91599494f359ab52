"""What a backend is: a module that follows this Protocol. All of them stand in crossfarm.backends.BACKENDS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.config.targets import CodeGeneration


class Backend(Protocol):
    """A compiler: makes a prepared model into code, and code into a bundle."""

    def compile(
        self,
        *,
        cell: Cell,
        model: Path,
        code: CodeGeneration,
        output: Path,
        tuned: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Compile a model.

        Args:
            cell: names of what is built.
            model: an ONNX file with static shapes.
            code: what code is made for.
            output: an empty folder, which becomes the artifact of the stage `compile`.
            tuned: layer -> choice that a search found, in place of the rules'; a backend without a search has none.

        Raises:
            ModelError: the model holds something that cannot be compiled; the message names operator and node.
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
