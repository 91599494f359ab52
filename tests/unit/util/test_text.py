"""The cleaner of text that comes from outside."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import time
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from invoke.exceptions import Exit

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.health import Health
from crossfarm.boards.leases.leases import BoardStatus, LeaseStatus
from crossfarm.cli.board_table import as_json, as_text
from crossfarm.cli.verbs import finish
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.results import JobRecord, from_json, to_json
from crossfarm.util.console import Console
from crossfarm.util.text import clean, escaped_json, one_line, write
from tests.unit.reports.records import parse

HOSTILE = [
    "\x1b[2J\x1b[H",
    "\x1b]0;a title\x07",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\x1bP1$r\x1b\\",
    "\x1bc",
    "\x1b(0",
    "good\rbad",
    "back\x08\x08\x08\x08",
    "bell\x07",
    "\x00",
    "\x7f",
    "\x85",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "ze\u200bro",
    "\ufeff",
    "\U000e0041",
    "\u2028",
    "\ud800",
    "\uffff",
    "\x1b",
    "\x1b[",
    "\x1b]no end",
]
"""Each of these does something on a terminal, or makes two texts look the same."""

_text = st.text(max_size=200) | st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), max_size=12).map("".join)
_VISIBLE = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13460)}
"""Of the characters that Unicode calls formats, those that show something: signs that enclose numbers or words."""


def _harms(character: str) -> bool:
    kind = unicodedata.category(character)
    turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return turns or (kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and ord(character) not in _VISIBLE)


@given(_text)
@example("".join(HOSTILE))
def test_clean_text_holds_no_control_character_but_newlines_and_tabs(text: str) -> None:
    assert [character for character in clean(text) if _harms(character) and character not in "\n\t"] == []
    assert clean(clean(text)) == clean(text)


def test_every_character_alone_is_harmless_afterwards() -> None:
    every = map(chr, (*range(0x20000), *range(0xE0000, 0xE1000)))  # no other plane has such characters
    left = set(clean("a".join(every))) - {"\n", "\t"}
    assert not any(map(_harms, left))


def test_a_character_goes_or_stays_whatever_stands_beside_it() -> None:
    every = [chr(point) for point in (*range(0x300), *range(0x1100, 0x3200), *range(0xFE00, 0x10000))]
    alone = "".join(map(clean, every))
    assert alone == "".join(clean(f"{character}\0") for character in every)
    assert "\u3164" not in alone and "\u115f" not in alone


@given(_text, st.integers(2, 20))
@example("".join(HOSTILE), 20)
def test_one_line_is_one_clean_line_of_at_most_the_limit(text: str, limit: int) -> None:
    shown = one_line(text, limit)
    assert len(shown.splitlines()) <= 1 and len(shown) <= limit
    assert not any(map(_harms, shown))
    assert one_line(shown, limit) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[31mred\x1b[0m word", "a red word"),
        ("\x1b]0;title\x07text", "text"),
        ("\x9b31mred", "red"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("größer als 3 µs, ﷺ, 漢字, 🎉", "größer als 3 µs, ﷺ, 漢字, 🎉"),
        ("\tcolumn\n", "\tcolumn\n"),
        ("a\ud800b", "a\ufffdb"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
    ],
)
def test_what_is_text_stays_and_what_is_not_goes_as_a_whole(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(_text)
@example("".join(HOSTILE))
def test_clean_text_is_text_that_xml_carries(text: str) -> None:
    element = ET.Element("x", {"a": clean(text)})
    element.text = clean(text)
    read = parse(ET.tostring(element, encoding="unicode"))
    assert read.get("a") == clean(text)


@given(_text)
@example("".join(HOSTILE))
def test_json_reads_back_the_same_and_is_harmless_to_look_at(text: str) -> None:
    shown = escaped_json(json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f"))
    assert not any(map(_harms, shown.replace("\ud800", "")))
    assert json.loads(shown) == text


@pytest.mark.parametrize("unit", ["\x1b[", "\x1b]", "\x9d", "\x9b0", "\x1b[0;", "\x1bP;", "\u202e", "\r", "\x1b "])
def test_a_megabyte_of_half_sequences_is_cleaned_at_once(unit: str) -> None:
    text = unit * (1_000_000 // len(unit)) + "0" * 1_000_000
    started = time.process_time()
    one_line(text)
    assert time.process_time() - started < 2.0


@given(_text, st.sampled_from(["ascii", "latin-1", "utf-8"]))
def test_every_text_can_be_written_to_every_stream(text: str, encoding: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
        write(stream, text)
        stream.flush()
        assert not any(_harms(c) and c not in "\n\t" for c in raw.getvalue().decode(encoding))


def test_nothing_passes_by_the_console_uncleaned() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False, verbose=True) as console:
        for text in HOSTILE:
            console.line(text)
            console.started(f"measure:{text}")
            console.finished(f"measure:{text}", "failed", 1.0, text)
    assert [c for c in stream.getvalue() if _harms(c) and c not in "\n\t"] == []


def test_a_failure_with_escape_sequences_does_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)

        def action() -> int:
            raise BoardError(f"board pi: {''.join(HOSTILE)} its end")

        with pytest.raises(Exit):
            finish(action)
        terminal.flush()
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert "its end" in shown
    assert [c for c in shown.replace("\r\n", "\n") if _harms(c) and c not in "\n\t"] == []


def test_the_list_of_boards_shows_what_a_board_said_cleaned() -> None:
    board = Board(name="pi", transport="local", targets=("x",))
    reason = "".join(HOSTILE)
    status = LeaseStatus(
        now=0.0,
        boards={"pi": BoardStatus(name="pi", health=Health(state="bad", reason=reason), token=1, holder=None)},
        waiting=(),
    )
    inventory = Inventory(path=Path("boards.yaml"), declared={"pi": board}, chosen={"pi": board})
    assert [c for c in as_text(inventory, status) if _harms(c) and c != "\n"] == []
    assert as_json(inventory, status).isascii()
    assert json.loads(as_json(inventory, status))["boards"][0]["reason"] == reason


def test_a_record_keeps_what_was_said_and_is_harmless_to_look_at() -> None:
    said = "".join(HOSTILE).replace("\ud800", "")
    record = JobRecord(job="measure:x", stage="measure", state="failed", seconds=1.0, cause=said)
    line = to_json(record)
    assert not any(map(_harms, line))
    assert from_json(line) == record
