"""In what words a program's end is told, on whatever board it ran."""

from __future__ import annotations

import signal

from crossfarm.errors import BoardError


def overdue(name: str, *, timeout: float, tail: str) -> BoardError:
    """Return the error for a program that was ended after `timeout` seconds; `tail` is the end of what it said."""
    return BoardError(
        f"{name} did not end within {timeout:g} s and was stopped; raise measure.timeout in the pipeline, or "
        f"lower its repeat{_quoted(tail)}"
    )


def killed(name: str, *, number: int, tail: str) -> BoardError:
    """Return the error for a program that a signal ended, with what that signal usually means."""
    return BoardError(f"{name} was killed by {_signal_name(number)}{_advice(number)}{_quoted(tail)}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _advice(number: int) -> str:
    if number == signal.SIGILL:
        return "; this CPU lacks an instruction that the toolchain file allows: lower code.cpu or code.features"
    if number == signal.SIGKILL:
        return "; the machine ran out of memory, or someone killed it: run it again"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        return "; it crashed: run it again with the bundle's program under a debugger, and report it"
    return "; run it again"


def _quoted(tail: str) -> str:
    lines = tail.strip().splitlines()
    return f" (its last words: {lines[-1].strip()})" if lines else ""
