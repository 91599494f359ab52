"""Regressions are confirmed on the board that showed them: a real sshd, one lease, both bundles in turns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.inventory import load_inventory
from crossfarm.boards.pool import Granted, Pool
from crossfarm.util.paths import HOME
from tests.integration.boards.conftest import Server, free_port, server  # noqa: F401 (a fixture)
from tests.integration.pipeline.conftest import Farm
from tests.integration.pipeline.test_history import CELL, _compare, _multiplied

pytestmark = pytest.mark.integration

BOARD = "pi-1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A farm that measured a model on a board over ssh, and then one of its name that computes four times as much."""

    farm: Farm
    fields: dict[str, Any]

    def options(self, **changes: Any) -> list[str]:
        """Write boards.yaml with changes of the board, and return the options that name it."""
        path = self.farm.folder / "boards.yaml"
        path.write_text(json.dumps({"wait": 2, "boards": [self.fields | changes]}))
        return ["--boards", str(path)]

    def confirmed(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Compare the two runs with a confirmation; return the exit code and the row of the latency."""
        ended = _compare(self.farm, "previous", "latest", "--json", "--confirm", *options)
        rows = json.loads(ended.output[ended.output.index("{") :])["rows"]
        return ended.code, next(row for row in rows if row["metric"] == "latency.p50")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, server: Server, zig_cache: Path) -> Measured:  # noqa: F811
    farm = Farm(tmp_path_factory.mktemp("confirm"))
    farm.environment |= {
        "ZIG_GLOBAL_CACHE_DIR": str(zig_cache),
        "CROSSFARM_DATABASE": f"sqlite:///{farm.folder}/leases.db",
    }
    (farm.folder / "trial.yaml").write_text(
        "name: trial\ntargets: [x86_64]\nmeasure: {warmup: 3, repeat: 30}\n", encoding="utf-8"
    )
    board = server.board(name=BOARD, folder=str(farm.folder / "board")).model_dump(mode="json", exclude_none=True)
    found = Measured(farm=farm, fields=board)
    for times in (4, 16):
        farm.add("heavy", _multiplied(times))
        ended = farm.run(*found.options())
        assert ended.code == 0, ended.output
    return found


def test_a_regression_is_confirmed_on_its_board_with_both_bundles_in_turns(measured: Measured) -> None:
    bundles = measured.farm.folder / "board" / "bundles"
    code, row = measured.confirmed(*measured.options())
    assert code == 1
    assert (row["kind"], row["gates"], row["cell"], row["board"]) == ("regressed", True, CELL, BOARD)
    assert "confirmed in turns: +" in row["reason"]
    assert len(list(bundles.iterdir())) == 2, "both were put onto the board"


def test_a_board_that_another_holds_confirms_nothing(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    options = measured.options()
    monkeypatch.setenv("CROSSFARM_DATABASE", measured.farm.environment["CROSSFARM_DATABASE"])
    targets = load_targets(HOME / "toolchains")
    inventory = load_inventory(Path(options[1]), default=HOME / "boards.yaml", targets=targets, boards=(), tags=())
    with Pool(inventory, targets=targets, user="another", priority=0) as pool:
        granted = pool.obtain("somebody:else", [BOARD])
        assert isinstance(granted, Granted)
        code, row = measured.confirmed(*options)
        pool.release(granted)
    assert (code, row["kind"], row["gates"]) == (0, "unconfirmed", False)
    assert row["reason"].endswith(f"not confirmed: the board {BOARD} is not to be had")
    assert measured.confirmed(*options)[1]["kind"] == "regressed", "and the lease was given back"


def test_a_board_that_is_not_declared_any_more_confirms_nothing(measured: Measured) -> None:
    code, row = measured.confirmed(*measured.options(name="pi-2"))
    assert (code, row["kind"], row["gates"]) == (0, "unconfirmed", False)
    assert f"the board {BOARD} is not to be had" in row["reason"]


def test_a_board_that_is_off_confirms_nothing_and_says_so(measured: Measured) -> None:
    code, row = measured.confirmed(*measured.options(port=free_port()))
    assert (code, row["kind"], row["gates"]) == (0, "unconfirmed", False)
    assert "not confirmed: " in row["reason"] and BOARD in row["reason"]
