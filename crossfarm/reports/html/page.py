"""Puts the page together: template, style, script and data, and the policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import collections
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.reports.columns import COLUMNS
from crossfarm.reports.html import sections
from crossfarm.reports.html.cell_data import Document, DocumentBuilder, worst_first
from crossfarm.reports.html.history import HistoryRow, drawn
from crossfarm.reports.page_again import BEGIN, END, digest_line, run_line
from crossfarm.reports.regression import alarms
from crossfarm.reports.run_view import Overview, is_flaky
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    from crossfarm.reports.html.compared import Compared
    from crossfarm.reports.regression.comparison import Comparison

_FOLDER = Path(__file__).parent
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""In JSON these stand in strings only; so no text can end the element that holds the document."""
_NUMBERS = frozenset({"max diff", "quantising", "p50", "program", "weights", "memory"})


def render(
    seen: Overview,
    *,
    history: Iterable[HistoryRow] = (),
    compared: Comparison | None = None,
    untold: str = "",
    digest: str = "",
) -> str:
    """Return the page of a run.

    Args:
        seen: the run.
        history: numbers of earlier runs and of this one, oldest first; the dialog of a cell draws its own.
        compared: the run beside those before; None where there are none.
        untold: why nothing is known of the runs before; empty where something is, or where no history is kept.
        digest: of all that the page shows, by which `page_again` knows it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    cells = sorted(seen.cells, key=worst_first)
    document = DocumentBuilder(drawn(history)).build(cells)
    places = {id(cell): number for number, cell in enumerate(cells)}
    rows = sections.table(cells, document)
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = one_line
    ids = {cell.id: data.id for cell, data in zip(cells, document.cells, strict=True)}
    wrong = sections.failures(seen, ids)
    return environment.get_template(
        "page.html"
    ).render(
        seen=seen,
        run=seen.run,
        run_line=Markup(f"{BEGIN}{run_line(seen)}{END}"),  # noqa: S704  # escapes what it says
        digest_line=Markup(digest_line(digest)),  # noqa: S704
        counts=collections.Counter(cell.state for cell in cells),
        symbols=sections.SYMBOLS,
        columns=COLUMNS,
        numbers=_NUMBERS,
        rows=rows,
        matrix=sections.matrix(rows, document, [places[id(cell)] for cell in seen.cells]),
        choices=sections.choices(document.cells),
        failures=wrong[: sections.MOST_FAILURES],
        more_failures=len(wrong) - sections.MOST_FAILURES,
        known=sections.known(seen, ids),
        compared=_changes(compared, ids),
        untold=one_line(untold),
        alarms=alarms.in_words(),
        flaky=[job for job in seen.flaky if is_flaky(job)],
        left_out=sections.left_out(cells, document),
        measured_at=sections.measured_at(cells),
        style=Markup(style),  # noqa: S704  # files of this folder
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(as_json(document)),  # noqa: S704  # every < is escaped
    )


def _changes(compared: Comparison | None, ids: Mapping[str, str]) -> Compared | None:
    if compared is None:
        return None
    # It imports NumPy, for verdicts that a page without runs before has none of.
    from crossfarm.reports.html.compared import compared_section

    return compared_section(compared, ids)


def as_json(document: Document) -> str:
    """Return the document as JSON that can stand in an HTML element, whatever its texts are."""
    from pydantic_core import to_json

    return to_json(document, inf_nan_mode="null").decode().translate(_ESCAPES)


def _hash(text: str) -> str:
    """Return what a content security policy calls a text that is allowed."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
