"""Whole runs on boards over ssh: an sshd on this host stands for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.boards.conftest import Server, free_port, server  # noqa: F401 (a fixture)
from tests.integration.pipeline.conftest import Farm, adder

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _one_bundle(farm: Farm, store: Path) -> None:
    """Let all tests measure one bundle, and keep leases of their own."""
    farm.add("plain", adder())
    farm.store = store
    farm.environment["CROSSFARM_DATABASE"] = f"sqlite:///{farm.folder}/leases.db"


def _declare(farm: Farm, *boards: dict[str, Any]) -> list[str]:
    """Write boards.yaml and return the options that name it."""
    path = farm.folder / "boards.yaml"
    path.write_text(json.dumps({"wait": 60, "boards": boards}))
    return ["--boards", str(path)]


def _board(server: Server, folder: Path, **fields: Any) -> dict[str, Any]:  # noqa: F811
    return server.board(folder=str(folder), **fields).model_dump(mode="json", exclude_none=True)


def _records(farm: Farm) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (farm.out / "results.jsonl").read_text().splitlines()]


def test_a_cell_is_measured_on_a_board_that_its_numbers_name(farm: Farm, server: Server) -> None:  # noqa: F811
    options = _declare(farm, _board(server, farm.folder / "board", name="pi-1"))
    ended = farm.run(*options)
    assert ended.code == 0, ended.output
    numbers = [record for record in _records(farm) if record["record"] == "measurement"]
    assert {(number["provenance"]["board"], number["provenance"]["timing"]) for number in numbers} == {
        ("pi-1", "silicon")
    }
    assert len(list((farm.folder / "board" / "bundles").iterdir())) == 1
    again = farm.run(*options)
    assert again.code == 0 and "up to date" in again.output


def test_a_board_that_is_off_makes_another_one_do_its_job(farm: Farm, server: Server) -> None:  # noqa: F811
    off = _board(server, farm.folder / "off", name="a-off", port=free_port())
    ended = farm.run(*_declare(farm, off, _board(server, farm.folder / "on", name="b-on")))
    assert ended.code == 0, ended.output
    assert "a-off at 127.0.0.1" in ended.output and "it ran well on b-on" in ended.output


def test_boards_that_are_all_off_end_in_a_row_with_the_reason(farm: Farm, server: Server) -> None:  # noqa: F811
    off = _board(server, farm.folder / "off", name="a-off", port=free_port())
    ended = farm.run(*_declare(farm, off))
    assert ended.code == 3, ended.output
    (row,) = (record for record in _records(farm) if record.get("stage") == "measure")
    assert row["state"] == "failed" and row["fault"] == "infrastructure"
    assert "a-off" in row["cause"] and "cannot be reached" in row["cause"]
