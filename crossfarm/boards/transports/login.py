"""How somebody logs in to a board and to its jump host: pinned host keys, keys, passphrases, and what went wrong."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import paramiko

_PUBLIC = ("ssh-", "ecdsa-", "sk-")
_MOST_PASSPHRASE_BYTES = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Login:
    """Where and how somebody logs in.

    Attributes:
        what: the board or the jump host, as messages call it.
        address: host name or IP address.
        port: of its sshd.
        user: who logs in.
        key: path of the private key; None for those of the agent alone.
        passphrase_file: path of a file with the passphrase of the key.
        agent: the keys of the ssh agent are tried too.
        host_key: the only one that is taken.
        is_board: it is no jump host.
    """

    what: str
    address: str
    port: int
    user: str
    key: str | None
    passphrase_file: str | None
    agent: bool
    host_key: str
    is_board: bool

    @property
    def where(self) -> str:
        """Return what and where it is."""
        return f"{self.what} at {self.address}:{self.port}"


def logins(board: Board) -> tuple[Login, Login | None]:
    """Return how a board is logged in to, and how its jump host is, where it has one."""
    own = Login(
        what=f"board {board.name}",
        address=board.address or "",
        port=board.port,
        user=board.user or "",
        key=board.key,
        passphrase_file=board.passphrase_file,
        agent=board.agent,
        host_key=board.host_key or "",
        is_board=True,
    )
    via = board.via
    if via is None:
        return own, None
    jump = dataclasses.replace(
        own,
        what=f"the jump host of board {board.name}",
        address=via.address,
        port=via.port,
        user=via.user,
        key=via.key or board.key,
        passphrase_file=board.passphrase_file if via.key is None else None,
        host_key=via.host_key,
        is_board=False,
    )
    return own, jump


def passphrase(login: Login) -> str | None:
    """Return the passphrase of a key; None where none is declared. It is in no message and in no log.

    Raises:
        BoardError: the file cannot be read, holds nothing, or others may read it.
    """
    if login.passphrase_file is None:
        return None
    path = Path(login.passphrase_file)
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(_MOST_PASSPHRASE_BYTES)
    except OSError as error:
        raise BoardError(
            f"{login.where}: the passphrase file {path} cannot be read: {error.strerror}; correct `passphrase_file`"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BoardError(
            f"{login.where}: others may read the passphrase file {path}; type: chmod 600 {shlex.quote(str(path))}"
        )
    found = content.decode("utf-8", errors="surrogateescape").split("\n", 1)[0].rstrip("\r")
    if not found:
        raise BoardError(f"{login.where}: the passphrase file {path} holds no passphrase in its first line")
    return found


def fingerprint(key: str) -> str:
    """Return what `ssh-keygen -l` shows of a public key `TYPE BASE64`: `SHA256:...`."""
    try:
        digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    except (binascii.Error, IndexError):
        return "a key that is not whole"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def pinned(login: Login) -> paramiko.MissingHostKeyPolicy:
    """Return a policy that takes the declared host key and no other."""
    import paramiko

    class Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc, unused-ignore]
        """Compares; nothing is ever learnt."""

        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            """Refuse another key than the pinned one."""
            shown = f"{key.get_name()} {key.get_base64()}"
            if shown.split() != login.host_key.split()[:2]:
                raise BoardError(
                    f"{login.what} at {login.address} shows the host key {fingerprint(shown)} "
                    f"({key.get_name()}), boards.yaml has pinned {fingerprint(login.host_key)}: it was set up anew, or "
                    "another machine answers. Nothing was sent; if you know why, put the new key into boards.yaml"
                )

    return Pinned()


@contextlib.contextmanager
def explain_failure(login: Login, jump: Login | None = None) -> Iterator[None]:
    """Turn the errors of connecting into a BoardError that says what to do.

    Args:
        login: what is logged in to.
        jump: the jump host that is to reach it now.

    Raises:
        BoardError: in place of what fabric, paramiko and sockets raise.
    """
    import paramiko

    where = login.where
    try:
        yield
    except paramiko.PasswordRequiredException as error:
        raise BoardError(
            f"{where}: the key {login.key} has a passphrase; name a file that holds it as `passphrase_file`, or load "
            "the key into your ssh agent and write `agent: true`"
        ) from error
    except paramiko.AuthenticationException as error:
        raise BoardError(_refused(login)) from error
    except paramiko.SSHException as error:
        if jump is None:
            raise BoardError(_misfit(login, error)) from error
        # The jump host refused the way, or did not answer in time: nothing spoke with the board yet.
        raise BoardError(
            f"{where} cannot be reached by way of {jump.where}: {one_line(str(error))}; see that it is on, that "
            "address and port in boards.yaml are right as seen from there, and that its sshd allows TCP forwarding"
        ) from error
    except FileNotFoundError as error:
        raise BoardError(f"{where}: the key {login.key} is not there; correct `key` in boards.yaml") from error
    except (OSError, EOFError) as error:
        raise BoardError(
            f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}; see that it is on, that its sshd "
            "runs, and that address and port in boards.yaml are right"
        ) from error


def _refused(login: Login) -> str:
    """Return what to tell when no key was taken."""
    agent = ""
    if login.agent:
        held = _agent_keys()
        agent = f"{' and' if login.key else ''} the keys of the ssh agent ({held})"
        if not login.key:
            return (
                f"{login.where} refuses user {login.user} with{agent}; load the right key with ssh-add, or name it as "
                "`key` in boards.yaml"
            )
    return (
        f"{login.where} refuses user {login.user} with the key {login.key}{agent}; copy the key there: "
        f"ssh-copy-id -i {shlex.quote(str(login.key))} -p {login.port} {login.user}@{login.address}"
    )


def _agent_keys() -> str:
    import paramiko

    if not os.environ.get("SSH_AUTH_SOCK"):
        return "none answers: SSH_AUTH_SOCK is not set"
    agent = paramiko.Agent()
    try:
        number = len(agent.get_keys())
    finally:
        agent.close()
    return f"{number} of them" if number else "it holds none"


def _misfit(login: Login, error: Exception) -> str:
    """Return what to tell of an error of the protocol, or of a key that cannot be read."""
    said = one_line(str(error))
    if login.key is None and login.agent:
        return _refused(login)  # without any key no login is tried
    if login.key is not None:
        with contextlib.suppress(OSError):
            head = Path(login.key).read_bytes()[:64].decode("ascii", errors="replace")
            if head.startswith(_PUBLIC):
                return (
                    f"{login.where}: {login.key} is the public half of a key; name the private one, which has no .pub"
                )
            if login.passphrase_file is not None and "BEGIN" in head and "PRIVATE KEY" in head:
                return (
                    f"{login.where}: the key {login.key} cannot be read with the passphrase of {login.passphrase_file} "
                    f"({said}); correct the passphrase"
                )
    return f"{login.where} speaks no ssh that fits: {said}; look at its sshd and at the key {login.key}"
