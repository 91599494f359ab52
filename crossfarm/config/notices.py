"""Who is told of a run when it has ended: `notify` of a pipeline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossfarm.config.base import Count, Declared, Line, Name, refuse_repeated

Variable = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200, description="the name of an environment variable"),
]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$", description="the name of a header")]
Address = Annotated[
    str,
    Field(
        pattern=r"^(https://[^\s/@]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)/[^\s\x00-\x1f\x7f]*$",
        max_length=2000,
        description="an https:// address with a path",
    ),
]


class Notice(Declared):
    """A command or a webhook that gets the comparison of a run with those before it, as JSON; exactly one of `command`,
    `url`, `url_variable`."""

    name: Name
    """What is told of it, it is told under this name."""
    command: Annotated[tuple[Line, ...], Field(min_length=1)] | None = None
    """A program and its arguments, started in the folder of models.yaml without a shell; the JSON is its input."""
    url: Address | None = None
    """Where the JSON is sent by POST; one that is no secret."""
    url_variable: Variable | None = None
    """Environment variable that holds such an address: those of chat services are secrets."""
    headers: Annotated[dict[Header, Variable], Field(default_factory=dict)]
    """Header of the request -> environment variable that holds its value."""
    secrets: tuple[Variable, ...] = ()
    """Environment variables that the command needs; what it says is told without their values."""
    text_key: Name | None = None
    """Send only a text under this key, as chat services want it: `text` or `content`."""
    when: Literal["worse", "changed", "always"] = "worse"
    """`worse`: something fails newly, regressed or is missing; `changed`: anything else than unchanged."""
    timeout: Annotated[Count, Field(le=600)] = 30
    """Seconds after which it is given up."""

    @model_validator(mode="after")
    def _one_way(self) -> Notice:
        if sum(way is not None for way in (self.command, self.url, self.url_variable)) != 1:
            raise ValueError("give exactly one of command, url, url_variable")
        if self.command is not None and self.headers:
            raise ValueError("headers are of a webhook, and this is a command; remove them")
        if self.command is None and self.secrets:
            raise ValueError("secrets are of a command, and this is a webhook; give them in headers or url_variable")
        refuse_repeated("secrets", self.secrets)
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the environment variables that must be set, and whose values are told nowhere."""
        address = (self.url_variable,) if self.url_variable is not None else ()
        return tuple(dict.fromkeys((*address, *self.headers.values(), *self.secrets)))
