"""boards.yaml: the boards that run bundles, how they are reached and what may be done to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossfarm.config.base import Count, Declared, Integer, Line, Name, Number, refuse_repeated
from crossfarm.config.targets import Arguments

BoardName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=64,
        description="a name of small letters, digits, '_' and '-' that begins with a letter or digit",
    ),
]
Tag = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64, description="letters, digits and any of . _ -")
]
Address = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_%-]*$",
        max_length=255,
        description="a host name or an IP address",
    ),
]
User = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=32, description="the name of a user on the board")
]
HostKey = Annotated[
    str,
    Field(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( [^\x00-\x1f\x7f]*)?$",
        max_length=2000,
        description="a public host key such as `ssh-ed25519 AAAA...`; ./inv boards --add HOST asks a board for its own",
    ),
]
Folder = Annotated[
    str,
    Field(
        pattern=r"^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$",
        max_length=255,
        description="a path of letters, digits and any of . _ - /",
    ),
]
DatabaseUrl = Annotated[
    str,
    Field(
        pattern=r"^(sqlite:///|postgresql://)[^\x00-\x20\x7f]+$",
        max_length=1000,
        description="`sqlite:///PATH` or `postgresql://USER@HOST/NAME`",
    ),
]
Coordinator = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$",
        max_length=255,
        description="`HOST:PORT` of a labgrid coordinator",
    ),
]
Place = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        max_length=128,
        description="the name of a labgrid place: letters, digits and any of . _ -",
    ),
]
Client = Annotated[
    str,
    Field(
        pattern=r"^[^-\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
        max_length=1000,
        description="the name of a program on PATH, or an absolute path",
    ),
]
Transport = Literal["ssh", "virtual", "local"]
Card = Literal["dna-f100", "dna-f200", "sakura-1"]


class HealthLimits(Declared):
    """What a board must keep to before it is used."""

    temperature: Annotated[Number, Field(gt=0, le=150)] = 80.0
    """Degrees Celsius; a hotter board is left to cool."""
    free_disk: Annotated[Integer, Field(ge=1)] = 100
    """MiB that must be free where bundles are kept."""
    load: Annotated[Number, Field(gt=0)] = 1.5
    """Load of the last minute for each CPU; above it, somebody else works there."""


class Power(Declared):
    """Commands that are run on the farm's host to switch a board's power."""

    on: Arguments
    """The program and its arguments."""
    off: Arguments
    """The program and its arguments."""


class JumpHost(Declared):
    """The machine by way of which a board is reached, as `ssh -J` does it. It logs in with the board's own means."""

    address: Address
    """Host name or IP address."""
    port: Annotated[Integer, Field(ge=1, le=65535)] = 22
    """Of its sshd."""
    user: User
    """Who logs in there."""
    key: Line | None = None
    """Path of the private key; without one that of the board."""
    host_key: HostKey
    """Its own public key; any other is refused."""


class Labgrid(Declared):
    """The place of a labgrid coordinator that a board is."""

    coordinator: Coordinator
    """`HOST:PORT` of the coordinator."""
    place: Place
    """Name of the place, in full."""
    client: Client = "labgrid-client"
    """labgrid's client program: a name on PATH or an absolute path."""


class Board(Declared):
    """One board."""

    name: BoardName
    """What reports and leases call it."""
    transport: Transport = "ssh"
    """`ssh`: a machine in the network; `virtual`: a container of `./inv board-up`; `local`: this host."""
    address: Address | None = None
    """Host name or IP address; not for `local`."""
    port: Annotated[Integer, Field(ge=1, le=65535)] = 22
    """Of its sshd."""
    user: User | None = None
    """Who logs in there; not for `local`."""
    key: Line | None = None
    """Path of the private key that logs in; relative to boards.yaml, `~` is your home. Not for `local`."""
    agent: bool = False
    """Keys of the ssh agent that runs here are tried too; `key` may then be left out."""
    passphrase_file: Line | None = None
    """Path of a file with the passphrase of `key`, readable by you alone; relative to boards.yaml."""
    via: JumpHost | None = None
    """A jump host by way of which it is reached."""
    host_key: HostKey | None = None
    """The board's own public key; any other is refused. Not for `local`."""
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of the toolchain files whose bundles it runs. Boards that serve the same target are of one kind."""
    tags: tuple[Tag, ...] = ()
    """Words by which `--tag` chooses boards."""
    timing: Literal["silicon", "emulated"] | None = None
    """What its clock is worth. Without it the board is looked at: one under an emulator is `emulated`."""
    platform: Annotated[Line, Field(max_length=200)] = "*"
    """Glob over `MACHINE MODEL` as the board tells them, such as `armv7l Raspberry Pi 2*`; else it is not used."""
    folder: Folder = ".crossfarm-board"
    """Where bundles and results are kept on the board; relative to the user's home."""
    limits: HealthLimits = HealthLimits()
    """What it must keep to before it is used."""
    governor: Literal["keep", "performance"] = "keep"
    """`performance`: set for a measurement and put back after it, which takes the right to write it."""
    power: Power | None = None
    """Commands of this host that switch its power."""
    reset: Arguments | None = None
    """Command of this host that restarts it; without one its `power` is switched off and on."""
    start_time: Annotated[Integer, Field(ge=1, le=3600)] = 120
    """Seconds after a restart within which it must be fit for use."""
    labgrid: Labgrid | None = None
    """The labgrid place that is acquired before the board is used and released after it."""
    cards: tuple[Card, ...] = ()
    """Accelerator cards that it holds. What is built for a card runs on boards that hold one and serve its target."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Board:
        refuse_repeated("targets", self.targets)
        refuse_repeated("tags", self.tags)
        refuse_repeated("cards", self.cards)
        if self.transport == "virtual" and self.timing == "silicon":
            raise ValueError("a board with `transport: virtual` is emulated; remove `timing: silicon`")
        needed = {"address": self.address, "user": self.user, "key": self.key, "host_key": self.host_key}
        ways = {"agent": self.agent or None, "passphrase_file": self.passphrase_file, "via": self.via}
        if self.transport == "local":
            given = [name for name, value in (needed | ways).items() if value is not None]
            if given:
                raise ValueError(f"a board with `transport: local` is this host; remove {', '.join(given)}")
            return self
        missing = [name for name, value in needed.items() if value is None and not (name == "key" and self.agent)]
        if self.passphrase_file is not None and self.key is None:
            raise ValueError("`passphrase_file` is of a `key`; name that too")
        if missing:
            raise ValueError(f"a board with `transport: {self.transport}` needs {', '.join(missing)}")
        return self


class BoardsFile(Declared):
    """The content of boards.yaml."""

    defaults: dict[str, object] = Field(default_factory=dict)
    """Merged under every board, mapping by mapping, before validation; lists and scalars are replaced."""

    database: DatabaseUrl | None = None
    """Where leases are kept. The default is a file in your home; farms on several hosts share a PostgreSQL database."""
    wait: Count = 3600
    """Seconds that a measurement waits for a board before it ends as an error."""
    boards: tuple[Board, ...] = ()
    """The boards."""
