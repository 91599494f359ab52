"""Programs with chosen variants, made by several builder processes at once and linked as bundles are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from crossfarm.backends.tvm.search_programs import link_program, prepare_runner
from crossfarm.boards.transports.programs import end_group
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target
from crossfarm.errors import ModelError
from crossfarm.tuning.build_worker import BuildAnswer, BuildRequest, LayerVariants
from crossfarm.util.paths import HOME

Choices = Mapping[str, Mapping[str, Any]]
"""Layer -> choice."""


class Builders:
    """Makes programs of one model for one target; several at once.

    Args:
        cell: what is built.
        target: of the cell.
        model: the prepared ONNX file.
        reference: artifact of the stage `reference`, whose inputs the programs run.
        work: an empty folder for all that is made.
        jobs: processes.
    """

    def __init__(
        self, *, cell: Cell, target: Target, model: Path, reference: Path, work: Path, jobs: int, log: IO[bytes]
    ) -> None:
        self._cell, self._target, self._model, self._reference = cell, target, model, reference
        self._work, self._jobs, self._log = work, jobs, log
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._made = 0
        prepare_runner(
            work / "runner", compiler=target.c_compiler, static=target.linkage == "static", runner=HOME / "runner"
        )

    def layers(self) -> tuple[LayerVariants, ...]:
        """Return the layers of the model with their variants.

        Raises:
            ModelError: the model cannot be compiled.
        """
        said = self._ask(self._request())
        if said.error is not None:
            raise ModelError(f"{self._cell.id}: its layers cannot be listed: {said.error}")
        return said.layers

    def build(self, wanted: Sequence[Choices]) -> list[Path | None]:
        """Return the folder of a runnable program for each set of choices; None for one that cannot be built."""
        with ThreadPoolExecutor(self._jobs) as pool:
            return list(pool.map(self._build_one, wanted))

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            processes, self._all, self._idle = self._all, [], []
        for process in processes:
            end_group(process)

    def _request(self, **more: Any) -> BuildRequest:
        return BuildRequest(
            model=self._model,
            name=self._cell.model,
            variant=self._cell.variant,
            target=self._cell.target,
            code=self._target.code,
            **more,
        )

    def _build_one(self, choices: Choices) -> Path | None:
        with self._lock:
            number, self._made = self._made, self._made + 1
        compiled, program = self._work / f"compiled-{number}", self._work / f"program-{number}"
        said = self._ask(
            self._request(output=compiled, tuned={layer: dict(choice) for layer, choice in choices.items()})
        )
        if said.error is not None:
            shutil.rmtree(compiled, ignore_errors=True)
            return None
        link_program(
            self._work / "runner",
            program,
            cell=self._cell,
            compiler=self._target.c_compiler,
            static=self._target.linkage == "static",
            compiled=compiled,
            reference=self._reference,
        )
        shutil.rmtree(compiled)
        return program

    def _ask(self, request: BuildRequest) -> BuildAnswer:
        with self._process() as process:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("a builder has pipes")
            try:
                process.stdin.write(request.model_dump_json().encode() + b"\n")
                process.stdin.flush()
                return BuildAnswer.model_validate_json(process.stdout.readline())
            except (OSError, ValidationError):
                end_group(process)
                return BuildAnswer(error="the compiler died")

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            process = self._idle.pop() if self._idle else None
        if process is None:
            process = subprocess.Popen(
                [sys.executable, "-m", "crossfarm.tuning.build_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, "PYTHONPATH": str(HOME)},
                start_new_session=True,
            )
            with self._lock:
                self._all.append(process)
        yield process
        if process.poll() is None:
            with self._lock:
                self._idle.append(process)
