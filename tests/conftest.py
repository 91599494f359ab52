"""Options of the whole suite."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.processor_time import ProcessorTime
from tests.skips import counter

settings.register_profile(
    "crossfarm",
    max_examples=50,  # of every property in every run; each run draws others
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("crossfarm"), max_examples=1000)
settings.register_profile(
    "mutants",  # the same few examples for every mutant, and no smaller ones than the first that fails
    parent=settings.get_profile("crossfarm"),
    max_examples=25,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "crossfarm"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so. Programs that the tests start would inherit it, and rightly
    # ignore the Ctrl-C that a test sends them.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--integration", action="store_true", help="also run the tests that need real tools and take seconds"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(counter(config), "skips")
    config.pluginmanager.register(ProcessorTime(), "processor time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--integration"):
        return
    skip = pytest.mark.skip(reason="an integration test: run it with --integration (./inv test does)")
    for item in items:
        if "integration" in item.keywords:
            item.add_marker(skip)
