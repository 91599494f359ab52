"""The answer of a verb as JSON: one object on the standard output, and whatever else is said on the standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from types import TracebackType
from typing import Any, Self, TextIO

from crossfarm.errors import EXIT_INTERRUPTED
from crossfarm.util.text import escaped_json


class JsonOutput:
    """Keeps the standard output for one JSON object while a block runs.

    Everything else that the block, or a program that it starts, writes there goes to the standard error.
    """

    def __init__(self) -> None:
        self._stream: TextIO = sys.stdout
        self._kept = -1
        self._is_written = False

    def __enter__(self) -> Self:
        self._stream = sys.stdout
        self._stream.flush()
        with contextlib.suppress(OSError, ValueError):  # a stream of a test is no file
            if self._stream.fileno() == 1:
                self._kept = os.dup(1)
                os.dup2(2, 1)
        sys.stdout = sys.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout = self._stream
        if self._kept >= 0:
            self._stream.flush()
            os.dup2(self._kept, 1)
            os.close(self._kept)
            self._kept = -1

    def write(self, text: str) -> None:
        """Write the answer, a JSON object that is text already; what is said first is the answer.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        if self._is_written:
            return
        self._is_written = True
        line = "\n".join(map(escaped_json, text.rstrip("\n").split("\n"))) + "\n"
        if self._kept < 0:
            self._stream.write(line)
            return
        data = memoryview(line.encode("utf-8", "replace"))
        while data:
            data = data[os.write(self._kept, data) :]

    def write_object(self, answer: Any) -> None:
        """Write the answer: what json.dumps takes."""
        self.write(json.dumps(answer, indent=1, ensure_ascii=False))

    def failed(self, message: str, code: int) -> None:
        """Write what went wrong, unless the answer was written before."""
        outcome = "interrupted" if code == EXIT_INTERRUPTED else "error"
        self.write_object({"outcome": outcome, "exit_code": code, "error": message})
