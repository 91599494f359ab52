"""Data that is neither a picture nor audio: files by their bytes, and texts by their tokens."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crossfarm.config.base import Count, Declared, Integer, Line, Name, RelativePath, Text
from crossfarm.config.sources import FileOrPackage

Token = Annotated[Integer, Field(ge=0, le=2**24)]


def label_pattern(pattern: str) -> str:
    """Return a regular expression that has a group.

    Raises:
        ValueError: it is none, or has no group.
    """
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}; correct it") from None
    if groups == 0:
        raise ValueError(f"{pattern!r} has no group; put the label in parentheses")
    return pattern


class ByteWindow(Declared):
    """Takes the first and the last bytes of a file as numbers from 0 to 255."""

    head: Count
    """Bytes from the beginning."""
    tail: Count
    """Bytes from the end, behind those."""
    padding: Token = 256
    """Number in place of bytes that a shorter file has not: behind the first ones, before the last ones."""
    strip: bool = False
    """Blanks and line breaks at both ends of the file, within its first and last 4096 bytes, are left out."""


class TokenWindow(Declared):
    """Cuts or fills a row of tokens to a length."""

    length: Count
    """Tokens of the input."""
    padding: Token = 0
    """Token behind shorter rows."""


class Files(Declared):
    """Files of a wheel or of a folder, of any type. The label is group 1 of the regular expression `label`."""

    kind: Literal["files"]
    name: Name
    source: FileOrPackage
    """A package (the whole wheel), or `file`: a folder."""
    globs: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    """Which files of it: those that one of the globs matches."""
    label: Annotated[Line, AfterValidator(label_pattern)] | None = None
    """Regular expression over the file's name; group 1 is the label: a number, or the name of a class."""
    limit: Count | None = None
    """At most so many files, taken evenly over their names in order."""


class TokenRow(Declared):
    """A text that was made into tokens."""

    text: Text
    """For people."""
    tokens: Annotated[tuple[Token, ...], Field(min_length=1, max_length=2**16)]
    """As the model's own tokeniser gives them."""
    label: Annotated[Integer, Field(ge=0)] | None = None
    """What it is about."""


class Tokens(Declared):
    """Texts that were made into tokens beforehand; it has no source."""

    kind: Literal["tokens"]
    name: Name
    rows: Annotated[tuple[TokenRow, ...], Field(min_length=1)]
    """The texts."""
