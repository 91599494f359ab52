"""What developers type: the linters."""

from __future__ import annotations

import pytest

from crossfarm.cli import develop
from crossfarm.errors import ToolError


def test_lint_ends_with_the_code_of_the_first_linter_that_finds_something(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = ("print('one', flush=True)", "import sys; sys.exit(4)", "import sys; sys.exit(5)")
    monkeypatch.setattr(develop, "LINTERS", tuple(("-c", script) for script in scripts))
    assert develop._lint() == 4


def test_without_import_linter_lint_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(develop, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"import-linter.* is not installed; \./inv setup installs it"):
        develop._lint()
