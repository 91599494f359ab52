"""The one cleaner of text that comes from outside: boards, jobs, models, engines, databases, files.

What is cleaned shows on a terminal, in XML and in Markdown as what it is: it cannot move the cursor, change colours or
the title, overwrite what stands before it, or run backwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import IO

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"  # CSI: colours, the cursor, erasing
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*+(?:\x07|\x1b\\|\x9c)"  # OSC, DCS and so on: titles
    r"|\x1b[ -/]*+[0-~]?"  # all others: character sets, reset
)
"""Control sequences of ECMA-48, in their forms of 7 and of 8 bits, with all that belongs to them."""
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction: marks, embeddings, overrides, isolates
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # of no width
    r"\ufdd0-\ufdef\ufffe\uffff]+"  # no characters at all
)
_TO_ESCAPE = re.compile(f"{_HIDDEN.pattern[:-2]}\u2028\u2029]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_LINE_ENDS = re.compile(r"\r\n?|[\x85\u2028\u2029]")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_WITHOUT_BREAKS = str.maketrans("", "", "\n\t")
_REPLACEMENT = "\ufffd"


def _is_plain(text: str) -> bool:
    """Say whether there is nothing to clean. Python calls some letters of no width printable too."""
    return text.isprintable() and (text.isascii() or _HIDDEN.search(text) is None)


def clean(text: str) -> str:
    """Return `text` without what neither a terminal nor XML 1.0 should get; newlines and tabs stay.

    Escape sequences go as a whole. Other line ends become newlines; what is no character becomes U+FFFD.
    """
    # Nearly every text is plain, and asking that is ten times cheaper than looking for what is not.
    if _is_plain(text.translate(_WITHOUT_BREAKS) if "\n" in text else text):
        return text
    return _without_hidden(_LINE_ENDS.sub("\n", _ESCAPES.sub("", text)))


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` clean and on one line: blanks folded, cut with an ellipsis after `limit` characters."""
    if not _is_plain(text):
        text = _without_hidden(_BLANKS.sub(" ", _ESCAPES.sub("", text)))
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def width(text: str) -> int:
    """Return how many columns of a terminal a clean line takes: East Asian letters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def cut(text: str, columns: int) -> str:
    """Return a clean line cut to so many columns of a terminal, with an ellipsis where something is lost."""
    if width(text) <= columns:
        return text
    kept = text[: max(0, columns - 1)]
    while width(kept) > columns - 1 and kept:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def write(stream: IO[str], text: str, *, is_clean: bool = False) -> None:
    """Write `text` cleaned, as far as the stream's encoding can hold it.

    Args:
        stream: where to.
        text: what.
        is_clean: all that is not ours in it was cleaned before; it may hold control sequences.

    Raises:
        OSError: the stream cannot be written.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write((text if is_clean else clean(text)).encode(encoding, "replace").decode(encoding))


def escaped_json(text: str) -> str:
    """Return JSON of one line with all that `clean` would take out, or change, as its escapes: it reads back the same.

    JSON itself escapes C0 alone; what else is hidden can stand in its strings only.
    """
    return text if _is_plain(text) else _TO_ESCAPE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    if point < 0x10000:
        return f"\\u{point:04x}"
    return f"\\u{0xD7C0 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"


def _without_hidden(text: str) -> str:
    return _SURROGATES.sub(_REPLACEMENT, _HIDDEN.sub("", text))


_TIMES = ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"))


def quantity(value: float, unit: str | None) -> str:
    """Return a number of a record with its unit: `12.3 ms`, `310 KiB`, `90.0 %`, `3.1e-07`.

    Args:
        value: the number.
        unit: as crossfarm.results names units; another one is shown as it is.
    """
    if not math.isfinite(value):
        return "not finite"
    if unit in _FORMS:
        return _FORMS[unit](value)
    return f"{value:.6g} {one_line(unit)}" if unit else f"{value:.6g}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 cell`, `2 cells`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """Return `value` with three significant digits in the largest of `units` in which it is at least 1."""
    factor, name = next((item for item in reversed(units) if abs(value) >= item[0]), units[0])
    number = value / factor
    digits = (
        0 if float(number).is_integer() and factor == 1 else 2 if abs(number) < 10 else 1 if abs(number) < 100 else 0
    )
    return f"{number:.{digits}f} {name}"


_FORMS: dict[str | None, Callable[[float], str]] = {
    "ns": lambda value: _scaled(value, _TIMES),
    "s": lambda value: _scaled(value * 1e9, _TIMES),
    "bytes": lambda value: _scaled(value, _SIZES),
    "share": lambda value: f"{value * 100:.0f} %" if value in (0, 1) else f"{value * 100:.1f} %",
    "scale": lambda value: f"{value:.1e}" if value else "0",
    "count": lambda value: f"{value:,.0f}",
    "celsius": lambda value: f"{value:.0f} °C",
}
