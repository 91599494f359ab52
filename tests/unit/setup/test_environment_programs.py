"""What goes with a tool's Python environment: `setup` installs it also where the environment itself is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.setup import requirements
from crossfarm.util.environments import ToolEnvironment


@pytest.mark.parametrize("has_program", [True, False])
def test_programs_that_go_with_an_environment_are_wanted_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_program: bool
) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "simulator-of-cores"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755 if has_program else 0o644)
    monkeypatch.setenv("PATH", str(place))
    environment = ToolEnvironment(name="tool", packages=("cores",), programs=(program.name,))
    monkeypatch.setattr(ToolEnvironment, "interpreter", lambda self: Path("/python"))
    row = requirements.environment_row(environment, users=["rtl_int8"])
    assert (row.found, row.packages) == (("/python", ()) if has_program else (None, ("cores",)))
    assert row.environments == ()
    assert "apt-get install cores" in row.how_to_install
