"""The Python environments of other tools, for tests that run those tools: made when they are first asked for."""

from __future__ import annotations

import sys

import pytest

from crossfarm.setup.environments import find_python, make_environment
from crossfarm.util.console import Console
from crossfarm.util.environments import ToolEnvironment


def need(environment: ToolEnvironment) -> None:
    """Make an environment where it is not there yet; skip the test where its Python is missing."""
    if environment.interpreter() is None:
        if find_python(environment.python) is None:
            pytest.skip(f"Python {environment.python}, which {environment.name} needs, is not installed")
        make_environment(environment, console=Console(sys.stdout))
