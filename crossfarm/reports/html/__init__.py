"""report.html: a run as one page for a browser, which needs no network and no other file.

page.html is the page without its data, for Jinja2; page.css and page.js are put into it as they are. Matrix, table and
failures are HTML, so that they can be read without a script. What the cells hold is one JSON document in the page,
out of which page.js builds the dialog of a cell when that is opened: a page with many cells stays small and quick.
page.js makes text nodes and SVG elements, and never HTML out of text: no text of a record can become part of the page.

The pictures are SVG that page.js draws: dots, bars and lines in a few dozen lines each, which follow the colours of the
page, can be read aloud and printed, and stay sharp. A plotting library draws on a canvas, which can do none of that.
"""

from __future__ import annotations

from crossfarm.reports.html.history import HistoryRow, Series
from crossfarm.reports.html.page import render

__all__ = ["HistoryRow", "Series", "render"]
