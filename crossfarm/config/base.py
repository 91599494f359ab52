"""What all declared things share: strict, frozen pydantic models, and types that say in words what they hold.

The `description` of a type continues the sentence "expected ..." in the message about a value that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9][a-z0-9_]*$"
"""Names become file names, C identifiers and parts of cell ids, so they hold nothing that a path or a shell reads."""
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]+$"
"""Text on one line that has no control characters and is not empty."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if path.startswith(("/", "\\")) or ".." in parts:
        raise ValueError(f"{path!r} may lead out of its folder; give a relative path without '..'")
    return path


Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        max_length=64,
        description="a name of small letters, digits and '_' that begins with a letter or digit",
    ),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="a sha256 of 64 small hexadecimal digits")]
PinnedPackage = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$",
        max_length=200,
        description="a package with its exact version, `name==1.2.3`",
    ),
]
Line = Annotated[
    str,
    Field(pattern=PRINTABLE_PATTERN, max_length=1000, description="a text on one line, without control characters"),
]
Text = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]+$",
        max_length=10_000,
        description="a text without control characters other than line breaks",
    ),
]
TensorName = Annotated[Line, Field(max_length=256)]
RelativePath = Annotated[
    str,
    AfterValidator(_inside),
    Field(pattern=PRINTABLE_PATTERN, max_length=1000, description="a relative path without '..'"),
]
Number = Annotated[float, Field(strict=True)]
"""A finite number; a text such as '3' is none."""
Share = Annotated[Number, Field(ge=0.0, le=1.0)]
Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


class Declared(BaseModel):
    """A declared thing: unknown keys are refused, and nothing changes it once it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


def refuse_repeated(what: str, values: Iterable[object]) -> None:
    """Raise ValueError when a value is given twice; `what` says in the plural what the values are."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} must differ, {value!r} is given twice; remove one")
        seen.add(value)


Identifier = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=64, description="letters, digits and any of . _ + -"),
]
