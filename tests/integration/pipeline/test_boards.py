"""The real command line on declared boards; this host stands for them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.leases.leases import Leases

pytestmark = pytest.mark.integration


def declare(folder: Path, *names: str) -> tuple[Path, str]:
    """Write a boards.yaml; returns its path and the URL of its leases."""
    database = f"sqlite:///{folder}/leases.db"
    entries = "".join(f"  - {{name: {name}, transport: local, targets: [x86_64]}}\n" for name in names)
    path = folder / "boards.yaml"
    path.write_text(f"database: {database}\nwait: 200\nboards:\n{entries}")
    return path, database


def test_two_farms_that_want_one_board_get_it_one_after_the_other(farm: Any, small_model: Any, tmp_path: Path) -> None:
    boards, database = declare(tmp_path, "only")
    (tmp_path / "second").mkdir()
    second = type(farm)(tmp_path / "second")
    second.environment.update(farm.environment)
    for one in (farm, second):
        one.add("tiny", small_model)
    running = [one.start("--boards", str(boards)) for one in (farm, second)]
    for process in running:
        assert process.wait(timeout=280) == 0, process.communicate()[0]
        process.communicate()
    for one in (farm, second):
        (measured,) = [record for record in one.records() if record["stage"] == "measure"]
        assert (measured["state"], measured["board"]) == ("run", "only")
        assert {record["provenance"]["board"] for record in one.records("measurement")} == {"only"}
    with Leases(database) as leases:
        status = leases.status().boards["only"]
        assert (status.token, status.holder) == (2, None)


def test_a_board_in_quarantine_is_a_row_with_its_reason_and_a_released_one_runs(
    farm: Any, small_model: Any, tmp_path: Path
) -> None:
    boards, _ = declare(tmp_path, "pi-1", "pi-2")
    farm.add("tiny", small_model)
    path = ("--boards", str(boards))
    quarantine = [*path, "--quarantine", "pi-1", "--reason", "the fan is broken"]
    assert inv_boards(farm, *quarantine, "--json")["boards"][0]["health"] == "quarantined"
    ended = farm.run(*path, "--board", "pi-1")
    assert ended.code == 3
    assert "no board is healthy: pi-1 is quarantined (the fan is broken)" in ended.output
    inv_boards(farm, *path, "--release", "pi-1", "--json")
    assert farm.run(*path, "--board", "pi-1").code == 0
    assert farm.run(*path, "--tag", "none").code == 2


def inv_boards(farm: Any, *arguments: str) -> Any:
    """Run `./inv boards` and return the JSON that it shows."""
    command = farm.command(task="boards")
    command = [*command[: command.index("boards") + 1], *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
