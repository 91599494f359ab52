"""Adding a board: what is typed, and what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.boards.declare import NewBoard, split_host, write_entry
from crossfarm.boards.transports.login import fingerprint
from crossfarm.config.loading import load_boards
from crossfarm.errors import ConfigError

# Made with ssh-keygen, which also gave the fingerprint.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjb2JArC8bQLfp1ULBVfz4zt7asFLDnS19QeCOj1w/f"
FINGERPRINT = "SHA256:6nR4rqpda0428M/QuM7vGWS6/Vq6pQr9R6G/1jBR0jc"
BOARD = NewBoard(name="pi-1", address="pi.lab", port=22, user="farm", key="~/.ssh/farm", targets=("armv7",))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pi.lab", (None, "pi.lab", 22)),
        ("farm@pi.lab", ("farm", "pi.lab", 22)),
        ("farm@10.0.0.7:2222", ("farm", "10.0.0.7", 2222)),
        ("[fe80::1%eth0]:2222", (None, "fe80::1%eth0", 2222)),
        ("farm@fe80::1", ("farm", "fe80::1", 22)),
    ],
)
def test_a_host_is_split_into_user_address_and_port(text: str, parts: tuple[str | None, str, int]) -> None:
    assert split_host(text) == parts


@pytest.mark.parametrize("text", ["", "a b", "pi:lab", "pi:123456", "@pi"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give HOST, USER@HOST or USER@HOST:PORT"):
        split_host(text)


def test_a_fingerprint_is_the_one_that_ssh_keygen_shows() -> None:
    assert fingerprint(HOST_KEY) == FINGERPRINT


def test_entries_are_added_to_a_new_file_and_to_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "boards.yaml"
    write_entry(path, BOARD, HOST_KEY, targets=["armv7"])
    path.write_text(f"# the lab\nwait: 60\n{path.read_text()}")
    second = NewBoard(name="pi-2", address="fe80::1", port=2222, user="farm", key="k", targets=("armv7",))
    write_entry(path, second, HOST_KEY, targets=["armv7"])
    loaded = load_boards(path, targets=["armv7"])
    assert loaded.wait == 60
    assert [(board.name, board.address, board.port) for board in loaded.boards] == [
        ("pi-1", "pi.lab", 22),
        ("pi-2", "fe80::1", 2222),
    ]
    assert path.read_text().startswith("# the lab\n")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("boards:\n  - {name: pi-1, transport: local, targets: [armv7]}\n", "is taken on line 2"),
        ("boards: []\nwait: 60\n", "was left as it is"),
    ],
)
def test_a_file_that_the_entry_would_spoil_is_left_as_it_is(tmp_path: Path, before: str, message: str) -> None:
    path = tmp_path / "boards.yaml"
    path.write_text(before)
    with pytest.raises(ConfigError, match=message) as refused:
        write_entry(path, BOARD, HOST_KEY, targets=["armv7"])
    assert path.read_text() == before
    assert f"    host_key: {HOST_KEY}\n" in str(refused.value)
    assert ".tmp" not in str(refused.value)  # a problem is told with the file's own name
    assert list(tmp_path.iterdir()) == [path]
