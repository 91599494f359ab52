"""The command line: invoke's own, but a mistyped task or option ends with the code of bad configuration.

invoke ends with 1 there, which in a pipeline's words means that a check failed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import os
import re
import sys
import types
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__" and "pipeline" in sys.argv:
    from crossfarm.pipeline.unchanged.again import run_again
    from crossfarm.util.paths import HOME

    # Where nothing changed since a run like this one, that is all. What is imported below takes several times as long.
    if (known := run_again(HOME, sys.argv[1:])) is not None:
        sys.exit(known)

import yaml

# invoke brings a PyYAML of its own, and imports unittest.mock (with asyncio and ssl) for a class that only tests of
# tasks use. Together they took a tenth of a second at every start.
sys.modules.setdefault("invoke.vendor.yaml", yaml)
_IS_MOCK_STAND_IN = "unittest.mock" not in sys.modules
if _IS_MOCK_STAND_IN:
    _stand_in = types.ModuleType("unittest.mock")
    _stand_in.__dict__["Mock"] = type("Mock", (), {})
    sys.modules["unittest.mock"] = _stand_in

from invoke.exceptions import Exit, ParseError  # noqa: E402
from invoke.program import Program  # noqa: E402

if _IS_MOCK_STAND_IN:
    del sys.modules["unittest.mock"]

import crossfarm  # noqa: E402
from crossfarm.errors import EXIT_BAD_CONFIG, nearest  # noqa: E402

_UNKNOWN = re.compile(r"No idea what '(?P<word>.*)' is!")
_COMPLETION = "--print-completion-script"
_HISTORY_VERBS = ("export", "import", "prune")


class CommandLine(Program):
    """invoke's program for the tasks of tasks.py."""

    def parse_core(self, argv: list[str] | None) -> None:
        """Read what stands before the first task."""
        said = io.StringIO()
        is_completion = any(word.startswith(_COMPLETION) for word in argv or sys.argv)
        try:
            with contextlib.redirect_stdout(said) if is_completion else contextlib.nullcontext():
                super().parse_core(argv)
        except ParseError as error:
            raise Exit(str(error), EXIT_BAD_CONFIG) from error
        finally:
            sys.stdout.write(as_typed(said.getvalue()))

    def parse_tasks(self) -> None:
        """Read the tasks and their options."""
        self._find_help()
        self.core.unparsed = spelled_out(self.core.unparsed)
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


def as_typed(script: str) -> str:
    """Return a completion script of invoke that asks the program by the name that is typed: it is on no PATH."""
    for inner, outer in (
        ("`inv --complete", "`${COMP_WORDS[0]} --complete"),
        ("$(inv ${=", "$(${words[1]} ${="),
        ("    inv --complete", "    ./inv --complete"),
    ):
        script = script.replace(inner, outer)
    return script


def spelled_out(words: Sequence[str]) -> list[str]:
    """Return what was typed in the form that invoke reads, which knows no verbs below a verb and no second place.

    `history export FILE` is `history-export FILE`, and `history MODEL TARGET` is `history MODEL --target TARGET`.
    `merge A B C` is `merge A,B,C`, and `boards --power NAME off` is `boards --power NAME:off`.
    """
    spelled = list(words)
    if spelled[:1] == ["boards"] and "--power" in spelled[:-2]:
        place = spelled.index("--power") + 1
        if not spelled[place + 1].startswith("-"):
            spelled[place : place + 2] = [":".join(spelled[place : place + 2])]
        return spelled
    if spelled[:1] == ["merge"]:
        folders = list(itertools.takewhile(lambda word: not word.startswith("-"), spelled[1:]))
        return ["merge", *([",".join(folders)] if folders else []), *spelled[1 + len(folders) :]]
    if spelled[:1] != ["history"]:
        return spelled
    if len(spelled) > 1 and spelled[1] in _HISTORY_VERBS:
        return [f"history-{spelled[1]}", *spelled[2:]]
    if len(spelled) > 2 and not spelled[1].startswith("-") and not spelled[2].startswith("-"):
        spelled.insert(2, "--target")
    return spelled


if __name__ == "__main__":
    # Imports and declarations are many objects that stay as long as the run: walking them often costs a tenth of it.
    gc.set_threshold(200_000, 50, 50)
    # Looking for plugins of pydantic reads the metadata of every distribution; there are none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        names = ["inv", "./inv"]
        CommandLine(name="crossfarm", binary="./inv", binary_names=names, version=crossfarm.__version__).run()
        sys.stdout.flush()
    except BrokenPipeError:
        from crossfarm.util.terminal import silence

        silence()
