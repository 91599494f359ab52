"""One tree of errors; each kind carries its own exit code.

A message says what happened, where, and, after a blank line or a semicolon, what to do next. Users see the message
alone; the log of the job or of the run holds the traceback.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

EXIT_GOOD = 0
EXIT_CHECK_FAILED = 1
EXIT_BAD_CONFIG = 2
EXIT_INFRASTRUCTURE = 3
EXIT_INTERRUPTED = 130

_LONGEST_NAME = 200
_MOST_NAMES = 5000
"""Of those that `nearest` looks at."""


class CrossfarmError(Exception):
    """Anything that crossfarm itself reports to its user. Never raised directly."""

    exit_code = EXIT_INFRASTRUCTURE


class ConfigError(CrossfarmError):
    """What the user declared cannot be used: a YAML file, an option, a name. The message carries file and line."""

    exit_code = EXIT_BAD_CONFIG


class ModelError(CrossfarmError):
    """The model itself is at fault: not ONNX, an operator that cannot be compiled, an open shape."""

    exit_code = EXIT_CHECK_FAILED


class UnfitError(ModelError):
    """A sound model is not for this target: too large, or made of what the target has not. Its cell is skipped."""


class BundleError(CrossfarmError):
    """A bundle is incomplete, truncated, or was made for something else."""

    exit_code = EXIT_CHECK_FAILED


class FetchError(CrossfarmError):
    """A source could not be downloaded, or is not the one that was pinned."""


class ToolError(CrossfarmError):
    """A program that crossfarm calls is missing or failed: the cross compiler, qemu, pip."""


class ToolMissingError(ToolError):
    """A program cannot be started."""


class ToolTimeoutError(ToolError):
    """A program took longer than it may."""


class EngineError(CrossfarmError):
    """The container engine does not answer, or lacks an image that is needed."""


class StoreError(CrossfarmError):
    """The store cannot be read or written: disk full, no permission, a corrupt object."""


class OutputError(StoreError):
    """The output of a job cannot be stored: it is too large, too deep, or holds what is no plain file."""


class DamagedError(StoreError):
    """An artifact is not what was stored. Whoever can make it again does; else it is dropped and the user is told."""


class BoardError(CrossfarmError):
    """A board could not be reached, died, or is not the machine that it is declared to be."""


class LeaseError(CrossfarmError):
    """A board cannot be had: none is healthy or free in time, the lease was lost, or the database does not answer."""


class BusyError(LeaseError):
    """A board is used by somebody who asks for no leases of ours."""


class HistoryError(CrossfarmError):
    """The history cannot be read or written: locked, full, damaged, or of a newer version. No run ends for that."""


class JobError(CrossfarmError):
    """A job ended without saying why: it was killed, ran out of memory or of time."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; perhaps you meant 'x'` for the known name that is nearest to `name`, or an empty string."""
    # The names may come from a stranger's file, and comparing two takes time with the product of their lengths.
    compared = itertools.islice((other for other in known if len(other) <= _LONGEST_NAME), _MOST_NAMES)
    matches = difflib.get_close_matches(name, compared, n=1, cutoff=0.6) if len(name) <= _LONGEST_NAME else []
    return f"; perhaps you meant {matches[0]!r}" if matches else ""
