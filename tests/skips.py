"""Counts skipped tests by reason; in CI a reason that nobody has declared fails the run.

A test that is skipped everywhere tests nothing, and a green run does not tell.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

KNOWN = Path(__file__).with_name("known_skips.yaml")
EXIT_UNKNOWN_SKIP = pytest.ExitCode.TESTS_FAILED


def unknown(reasons: Mapping[str, int], known: Mapping[str, str]) -> dict[str, int]:
    """Return those reasons, with how often each occurred, that no regular expression of `known` matches whole."""
    patterns = [re.compile(pattern, re.DOTALL) for pattern in known]
    return {reason: count for reason, count in reasons.items() if not any(p.fullmatch(reason) for p in patterns)}


class SkipCounter:
    """A pytest plugin. Without --integration every integration test is skipped, so nothing is demanded then."""

    def __init__(self, *, is_strict: bool) -> None:
        self._is_strict = is_strict
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._count(report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._count(report.longrepr)

    def _count(self, told: object) -> None:
        reason = told[2] if isinstance(told, tuple) else str(told)
        self._reasons[str(reason).removeprefix("Skipped: ")] += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._unknown() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = EXIT_UNKNOWN_SKIP

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for reason, count in self._unknown().items():
            terminalreporter.write_line(
                f"{count} skipped for a reason that {KNOWN.name} does not know, which fails in CI: {reason}", red=True
            )

    def _unknown(self) -> dict[str, int]:
        if not self._is_strict:
            return {}
        return unknown(self._reasons, yaml.safe_load(KNOWN.read_text(encoding="utf-8")))


def counter(config: pytest.Config) -> SkipCounter:
    """Return the plugin; strict where CI runs the whole suite."""
    return SkipCounter(is_strict=os.environ.get("CI") == "true" and bool(config.getoption("--integration")))
