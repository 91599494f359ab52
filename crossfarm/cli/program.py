"""The command line: invoke's own, but a mistyped task or option ends with the code of bad configuration.

invoke ends with 1 there, which in a pipeline's words means that a check failed.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import sys
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

import crossfarm
from crossfarm.errors import EXIT_BAD_CONFIG, nearest

_UNKNOWN = re.compile(r"No idea what '(?P<word>.*)' is!")


class CommandLine(Program):
    """invoke's program for the tasks of tasks.py."""

    def parse_core(self, argv: list[str] | None) -> None:
        """Read what stands before the first task."""
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise Exit(str(error), EXIT_BAD_CONFIG) from error

    def parse_tasks(self) -> None:
        """Read the tasks and their options."""
        self._find_help()
        try:
            super().parse_tasks()
        except ParseError as error:
            raise Exit(self._told(error), EXIT_BAD_CONFIG) from error

    def _find_help(self) -> None:
        """Take `TASK --help` for what it is; invoke takes it for the argument of a task that wants one."""
        words = self.core.unparsed
        for task, word in itertools.pairwise(words):
            if word == "--help" and task in self.collection.task_names:
                self.args["help"].value = task
                self.core.unparsed = []
                return

    def _told(self, error: ParseError) -> str:
        unknown = _UNKNOWN.fullmatch(str(error))
        if unknown is None:
            return f"{error}; ./inv --help TASK explains the options of a task"
        word = unknown["word"]
        options: list[Any] = [flag for context in self.parser.contexts.values() for flag in context.flags]
        if word.startswith("-"):
            return f"there is no option {word}{nearest(word, options)}; ./inv --help TASK lists those of a task"
        return f"there is no task {word!r}{nearest(word, self.parser.contexts)}; ./inv --list names all"


if __name__ == "__main__":
    # Imports and declarations are many objects that stay as long as the run: walking them often costs a tenth of it.
    gc.set_threshold(200_000, 50, 50)
    try:
        CommandLine(name="crossfarm", binary="./inv", version=crossfarm.__version__).run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`). What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
