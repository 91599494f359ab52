"""An engine that is made when its first job comes: a run in which everything is up to date imports and starts none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from crossfarm.engines.protocol import Engine
from crossfarm.stages.job import Outcome


class DeferredEngine:
    """Stands for an engine until a job needs it."""

    def __init__(self, start: Callable[[], Engine]) -> None:
        """Make it; `start` makes the engine, at most once."""
        self._start = start
        self._engine: Engine | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def run(self, folder: Path, log: Path) -> Outcome:
        """Run a job on the engine; the first call makes it."""
        with self._lock:
            if self._is_cancelled:
                return Outcome(good=False, seconds=0.0, cause="interrupted", fault="infrastructure")
            if self._engine is None:
                self._engine = self._start().__enter__()
            engine = self._engine
        return engine.run(folder, log)

    def cancel(self) -> None:
        """End all running jobs; none is started any more."""
        with self._lock:
            self._is_cancelled = True
            engine = self._engine
        if engine is not None:
            engine.cancel()

    def __enter__(self) -> DeferredEngine:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_cancelled = True
            engine = self._engine
        if engine is not None:
            engine.__exit__()
