"""boards.yaml: what is refused, and what the message says."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.config.boards import BoardsFile
from crossfarm.config.loading import load_boards
from crossfarm.errors import ConfigError

BOARD = """\
boards:
  - name: pi-1
    address: pi.lab
    user: farm
    key: id
    host_key: ssh-ed25519 AAAA
    targets: [armv7]
"""


def load(folder: Path, text: str) -> BoardsFile:
    path = folder / "boards.yaml"
    path.write_text(text)
    return load_boards(path, targets=["armv7", "aarch64"])


def test_the_example_that_the_other_tests_spoil_is_good(tmp_path: Path) -> None:
    (board,) = load(tmp_path, BOARD).boards
    assert (board.name, board.transport, board.port) == ("pi-1", "ssh", 22)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("pi-1", "Pi 1", "2: boards[0].name: expected a name of small letters"),
        ("    user: farm\n", "", "needs user"),
        ("    user: farm\n", "    user: -oProxyCommand=x\n", "4: boards[0].user"),
        ("pi.lab", "-oProxyCommand=x", "3: boards[0].address"),
        ("pi.lab", "pi;reboot", "3: boards[0].address"),
        ("AAAA", "AAAA=== x", "6: boards[0].host_key: expected a public host key"),
        ("[armv7]", "[armv7, arm64]", "7: boards[0].targets[1]: there is no target 'arm64'"),
        ("[armv7]", "[armv7, armv7]", "targets must differ"),
        ("    targets", "    folder: a b\n    targets", "7: boards[0].folder"),
        ("    address: pi.lab\n", "    address: pi.lab\n    transport: local\n", "is this host; remove address, user"),
        ("boards:\n", "boards:\n  - {name: pi-1, transport: local, targets: [armv7]}\n", "is taken on line 2"),
        ("boards:\n", "database: mysql://x/y\nboards:\n", "1: database: expected `sqlite:///PATH`"),
        ("boards:\n", "wait: 0\nboards:\n", "1: wait"),
        ("    key:", "    kye:", "5: boards[0].kye: unknown key 'kye'; perhaps you meant 'key'"),
        ("    targets", "    cards: [dna-f300]\n    targets", "7: boards[0].cards[0]"),
        ("    targets", "    cards: [dna-f200, dna-f200]\n    targets", "cards must differ"),
    ],
)
def test_bad_input_is_told_with_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, BOARD.replace(before, after, 1))
    assert message in str(refused.value).replace(f"{tmp_path}/boards.yaml:", "")


def test_defaults_are_merged_under_every_board(tmp_path: Path) -> None:
    text = f"defaults: {{user: lab, limits: {{load: 3}}, tags: [bench]}}\n{BOARD}    limits: {{temperature: 70}}\n"
    (board,) = load(tmp_path, text).boards
    assert (board.user, board.tags) == ("farm", ("bench",)), "what a board says itself goes before"
    assert (board.limits.load, board.limits.temperature) == (3, 70)


def test_what_is_wrong_in_defaults_is_told_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"boards\.yaml:1: defaults\.tagz: unknown key 'tagz'; perhaps you meant 'tags'"
    ):
        load(tmp_path, f"defaults: {{tagz: [bench]}}\n{BOARD}")


def test_a_file_that_declares_nothing_is_good(tmp_path: Path) -> None:
    assert load(tmp_path, "boards: []\n") == BoardsFile()
