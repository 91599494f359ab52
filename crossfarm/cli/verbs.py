"""Makes functions into tasks of invoke. An option is declared once: help, completion and validation follow from it."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from crossfarm.errors import EXIT_GOOD, EXIT_INTERRUPTED, ConfigError, CrossfarmError

if TYPE_CHECKING:
    from crossfarm.cli.json_output import JsonOutput

Kind = Literal["text", "list", "number", "count", "flag"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """What a user may say to a verb.

    Attributes:
        name: as a keyword; on the command line it is spelled with dashes.
        help: one line that says what it is, its default in parentheses.
        kind: a verb gets a `list` as a tuple of what stands between commas, a `number` as a float, a `count` as a whole
            number; of these an empty text, which stands for the verb's own default, as None.
        default: of a text or a flag.
        is_on: a flag is on unless it is turned off: --no-NAME.
        required: it has no default, and may be given by its place.
    """

    name: str
    help: str
    kind: Kind = "text"
    default: str = ""
    is_on: bool = False
    required: bool = False

    def read(self, given: Any) -> Any:
        """Return what was given as the verb gets it.

        Raises:
            ConfigError: a number is none.
        """
        match self.kind:
            case "list":
                return tuple(part.strip() for part in (given or "").split(",") if part.strip())
            case "number":
                return self._number(given) if given else None
            case "count":
                return int(self._number(given)) if given else None
            case _:
                return given

    def _number(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (self.kind == "count" and not value.is_integer()):
            wanted = "a whole number" if self.kind == "count" else "a number"
            raise ConfigError(f"--{self.name.replace('_', '-')} {text}: give {wanted}")
        return value

    @property
    def parameter(self) -> inspect.Parameter:
        """Return it as invoke reads it from a function."""
        default: Any = self.is_on if self.kind == "flag" else self.default
        return inspect.Parameter(
            self.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if self.required else default,
        )


Given = Mapping[str, Any]
"""Options of a verb by name, as Option.read returns them; of JSON a JsonOutput, or None where it was not asked for."""
JSON = Option(name="json", help="show one JSON object; all else goes to the standard error", kind="flag")
"""The option of every verb that shows a table."""


def verb(*options: Option, name: str | None = None) -> Callable[[Callable[[Given], int]], Task[Any]]:
    """Return a decorator that makes a function of its options, which returns an exit code, into a task.

    What the function needs it imports inside, so that a start stays fast and Ctrl-C ends an import like everything
    else.

    Args:
        options: what users may say, in the order of the help.
        name: of the task; None for the function's own.
    """

    def decorate(function: Callable[[Given], int]) -> Task[Any]:
        def body(context: Context, *places: Any, **said: Any) -> None:
            given = {option.name: option.parameter.default for option in options}
            given |= dict(zip(given, places, strict=False)) | said

            def read(output: JsonOutput | None = None) -> Given:
                found = {option.name: option.read(given[option.name]) for option in options}
                return {**found, JSON.name: output} if JSON in options else found

            if JSON not in options or not given[JSON.name]:
                finish(lambda: function(read()))
                return
            from crossfarm.cli.json_output import JsonOutput

            with JsonOutput() as output:
                finish(lambda: function(read(output)), output)

        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        signature = inspect.Signature([first, *(option.parameter for option in options)])
        body.__signature__ = signature  # type: ignore[attr-defined]
        body.__name__, body.__doc__, body.__module__ = function.__name__, function.__doc__, function.__module__
        texts = {option.name: option.help for option in options}
        return cast(Task[Any], task(body, name=name or function.__name__, help=texts))

    return decorate


def finish(action: Callable[[], int], output: JsonOutput | None = None) -> None:
    """Run an action and end the program with its exit code; our own errors are shown without a traceback.

    Args:
        action: what is done; it returns an exit code.
        output: where the answer is expected as JSON, errors too.
    """
    try:
        code = action()
    except CrossfarmError as error:
        from crossfarm.util.text import write

        sys.stdout.flush()
        write(sys.stderr, f"{error}\n")
        code = error.exit_code
        if output:
            output.failed(str(error), code)
    except BrokenPipeError:
        from crossfarm.util.terminal import silence

        silence()
        code = EXIT_GOOD
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = EXIT_INTERRUPTED
        if output:
            output.failed("interrupted", code)
    if code:
        raise Exit(code=code)
