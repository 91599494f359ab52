"""A terminal, as far as programs of this project use one: it reads what they write and knows what a user then sees."""

from __future__ import annotations

import re

from crossfarm.util.text import width

_PIECES = re.compile(
    r"\x1b\[(?P<arguments>[?\d;]*)(?P<code>[A-Za-z])|(?P<escape>\x1b.?)|(?P<control>[\x00-\x1f\x7f])|(?P<text>[^\x00-\x1f\x7f]+)"
)


class Screen:
    """Lines, a cursor and what scrolled away above. A line that is too long wraps; lines that are there do not reflow.

    Args:
        columns: of the screen.
        rows: of the screen; the cursor cannot go above them.

    Whatever it does not know is an error, lest something goes unseen.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self.cells: list[list[str]] = [[]]
        self.row = self.column = 0
        self.is_cursor_visible = True
        self.colours: set[str] = set()
        self.wrapped = 0
        """How many lines were too long."""

    @property
    def lines(self) -> list[str]:
        """Return every line down to the cursor, also those that scrolled away, without blanks at their ends."""
        lines = ["".join(line).rstrip() for line in self.cells]
        while len(lines) > self.row + 1 and not lines[-1]:
            lines.pop()
        return lines

    def feed(self, text: str) -> None:
        """Read what a program wrote."""
        for piece in _PIECES.finditer(text):
            if piece["text"]:
                self._put(piece["text"])
            elif piece["code"]:
                self._control(piece["code"], piece["arguments"])
            elif piece["control"] == "\r":
                self.column = 0
            elif piece["control"] == "\n":
                self._down()
            else:
                raise AssertionError(f"unexpected {piece[0]!r} in {text[piece.start() : piece.end() + 20]!r}")

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; what stands to the right of it is lost."""
        self.columns, self.rows = columns, rows
        self.cells = [line[:columns] for line in self.cells]
        self.column = min(self.column, columns)

    def _down(self) -> None:
        # The line discipline of a terminal makes a newline go to the first column too.
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.cells):
            self.cells.append([])

    def _put(self, text: str) -> None:
        for letter in text:
            if self.column >= self.columns:
                self._down()
                self.wrapped += 1
            line = self.cells[self.row]
            line.extend(" " * (self.column - len(line)))
            line[self.column : self.column + 1] = [letter]
            self.column += 1
            if width(letter) == 2:
                line[self.column : self.column + 1] = [""]
                self.column += 1

    def _control(self, code: str, arguments: str) -> None:
        number = int(arguments) if arguments.isdigit() else 0
        if code == "m":
            self.colours.add(arguments)
        elif code == "A":
            self.row -= max(1, number)
            assert self.row >= max(0, len(self.cells) - self.rows), "the cursor went above the screen"
        elif code == "K" and number == 2:
            self.cells[self.row] = []
        elif code in "hl" and arguments == "?25":
            self.is_cursor_visible = code == "h"
        else:
            raise AssertionError(f"unexpected control sequence {arguments}{code}")
