"""What a backend is: a module that follows this Protocol. All of them stand in crossfarm.backends.BACKENDS."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from crossfarm.spec.cells import Cell
from crossfarm.spec.targets import CodeGeneration, CommandCompiler, ZigCompiler


class Backend(Protocol):
    """A compiler: makes a prepared model into code, and code into a bundle."""

    def compile(self, *, cell: Cell, model: Path, code: CodeGeneration, output: Path) -> None:
        """Compile a model.

        Args:
            cell: names of what is built.
            model: an ONNX file with static shapes.
            code: what code is made for.
            output: an empty folder, which becomes the artifact of the stage `compile`.

        Raises:
            ModelError: the model holds something that cannot be compiled; the message names operator and node.
        """

    def bundle(
        self,
        *,
        cell: Cell,
        compiler: ZigCompiler | CommandCompiler,
        static: bool,
        compiled: Path,
        reference: Path,
        runner: Path,
        output: Path,
    ) -> None:
        """Link what `compile` wrote and put everything that a board needs into one folder.

        Args:
            cell: names of what is built.
            compiler: the C compiler to link with.
            static: link the program statically, and make no shared library.
            compiled: artifact of the stage `compile`.
            reference: artifact of the stage `reference`, whose inputs go into the bundle.
            runner: folder of the C sources that run a model on a board.
            output: an empty folder, which becomes the bundle.

        Raises:
            ToolError: the C compiler is missing or fails.
            BundleError: the two artifacts do not belong together.
        """
