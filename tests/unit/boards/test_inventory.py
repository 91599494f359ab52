"""The boards of a run, chosen from boards.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.boards.inventory import DATABASE_VARIABLE, Inventory, load_inventory
from crossfarm.errors import ConfigError

FILE = """\
database: postgresql://farm@db/crossfarm
boards:
  - {name: a, address: a, user: u, key: keys/a, host_key: ssh-ed25519 AAAA, targets: [armv7], tags: [bench, hall]}
  - {name: b, transport: local, targets: [armv7, x86_64], tags: [bench]}
"""


def load(folder: Path, **choice: tuple[str, ...]) -> Inventory:
    (folder / "boards.yaml").write_text(FILE)
    return load_inventory(
        folder / "boards.yaml", default=folder / "none.yaml", targets=["armv7", "x86_64", "riscv64"], **choice
    )


def names(inventory: Inventory, target: str) -> list[str]:
    return [board.name for board in inventory.candidates(target)]


def test_without_a_file_every_target_is_run_on_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    inventory = load_inventory(None, default=tmp_path / "boards.yaml", targets=["armv7"])
    assert names(inventory, "armv7") == []
    assert inventory.missing("armv7") is None
    assert inventory.database == f"sqlite:///{tmp_path}/crossfarm/leases.db"


def test_the_projects_own_file_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "boards.yaml").write_text(FILE)
    assert set(load_inventory(None, default=tmp_path / "boards.yaml", targets=["armv7", "x86_64"]).declared) == {
        "a",
        "b",
    }


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_inventory(tmp_path / "none.yaml", default=tmp_path / "boards.yaml", targets=[])


def test_keys_are_absolute_paths_beside_the_file(tmp_path: Path) -> None:
    assert load(tmp_path).declared["a"].key == str(tmp_path / "keys" / "a")


def test_a_target_without_a_board_is_run_on_this_host_unless_boards_were_chosen(tmp_path: Path) -> None:
    assert load(tmp_path).missing("riscv64") is None
    chosen = load(tmp_path, boards=("a",))
    assert names(chosen, "armv7") == ["a"]
    assert chosen.missing("riscv64") == "none of the boards that --board and --tag choose serves riscv64"
    assert chosen.missing("x86_64") == "--board and --tag leave out all boards that serve x86_64: b"


@pytest.mark.parametrize(("tags", "found"), [(("bench",), ["a", "b"]), (("bench", "hall"), ["a"])])
def test_a_board_must_have_all_tags(tmp_path: Path, tags: tuple[str, ...], found: list[str]) -> None:
    assert names(load(tmp_path, tags=tags), "armv7") == found


@pytest.mark.parametrize(
    ("choice", "message"), [({"boards": ("c",)}, "--board c: .* declares none"), ({"tags": ("bensh",)}, "'bench'")]
)
def test_a_name_that_is_not_declared_is_refused(
    tmp_path: Path, choice: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **choice)


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    assert load(tmp_path).database == "postgresql://farm@db/crossfarm"
    monkeypatch.setenv(DATABASE_VARIABLE, "sqlite:////x")
    assert load(tmp_path).database == "sqlite:////x"
