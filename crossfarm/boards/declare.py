"""Adds a board: asks it for its host key and writes its entry into boards.yaml."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

from crossfarm.boards.transports.allowance import Allowance, BoundedSocket
from crossfarm.config.loading import load_boards
from crossfarm.errors import BoardError, ConfigError
from crossfarm.util.files import replacing
from crossfarm.util.text import one_line

KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
"""Host keys that are asked for, the best first."""
ANSWER_SECONDS = 15.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewBoard:
    """What is known of a board that is to be added.

    Attributes:
        name: for boards.yaml.
        address: host name or IP address.
        port: of its sshd.
        user: who logs in there.
        key: path of the private key, as it is to be written.
        targets: names of toolchain files.
    """

    name: str
    address: str
    port: int
    user: str
    key: str
    targets: Sequence[str]


def split_host(text: str) -> tuple[str | None, str, int]:
    """Return user, address and port of `user@address:port`; an IPv6 address with a port stands in brackets.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(
        r"(?:([^@\s]+)@)?(?:\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|([^@\s:\[\]]+))(?::([0-9]{1,5}))?", text
    )
    bare = re.fullmatch(r"(?:([^@\s]+)@)?([0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*)", text) if found is None else None
    if bare is not None:
        return bare[1], bare[2], 22
    if found is None:
        raise ConfigError(f"--add {text}: give HOST, USER@HOST or USER@HOST:PORT")
    return found[1], found[2] or found[3], int(found[4] or 22)


def ask_host_key(address: str, port: int) -> str:
    """Return the public host key of a board as boards.yaml holds it; nobody logs in for that.

    Raises:
        BoardError: it does not answer, or what answers is no sshd.
    """
    import paramiko

    where = f"{address} port {port}"
    try:
        with socket.create_connection((address, port), timeout=ANSWER_SECONDS) as connection:
            transport = paramiko.Transport(BoundedSocket(connection, Allowance()))
            try:
                transport.get_security_options().key_types = KEY_TYPES
                transport.start_client(timeout=ANSWER_SECONDS)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except (OSError, paramiko.SSHException, EOFError) as error:
        raise BoardError(
            f"{where} did not show a host key: {one_line(str(error)) or type(error).__name__}; see that it is on, "
            "in the network, and runs sshd"
        ) from error
    return f"{key.get_name()} {key.get_base64()}"


def write_entry(path: Path, board: NewBoard, host_key: str, *, targets: Collection[str]) -> str:
    """Write a board's entry to the end of boards.yaml, which is made where it is missing; returns the entry.

    Args:
        path: boards.yaml.
        board: the board.
        host_key: its public key.
        targets: names of the toolchain files.

    Raises:
        ConfigError: with the entry the file would not be good; it stays as it was. Or it cannot be written.
    """
    entry = (
        f"  - name: {board.name}\n"
        f"    address: '{board.address}'\n"
        f"    port: {board.port}\n"
        f"    user: {board.user}\n"
        f"    key: {board.key}\n"
        f"    host_key: {host_key}\n"
        f"    targets: [{', '.join(board.targets)}]\n"
    )
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else "boards:\n"
        with replacing(path) as trial:
            trial.write_text(before + ("" if before.endswith("\n") else "\n") + entry, encoding="utf-8")
            try:
                load_boards(trial, targets=targets)
            except ConfigError as error:
                raise ConfigError(str(error).replace(str(trial), str(path))) from error
    except ConfigError as error:
        raise ConfigError(
            f"{path} was left as it is, because an entry at its end would make it wrong:\n{error}\n"
            f"correct what you typed, or put this under `boards:` yourself:\n\n{entry}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; name another file with --boards") from error
    return entry
