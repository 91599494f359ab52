"""Where a history is: a file, or a database whose password is recorded nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.errors import ConfigError
from crossfarm.pipeline.options import Options
from crossfarm.reports.history.place import Place, chosen_place, read_place

DEFAULT = Path("state/history.db")
URL = "postgresql://farm@db.example/results"
SECRET = "postgresql://farm:hunter2@db.example/results"  # noqa: S105


@pytest.mark.parametrize(
    ("option", "variable", "place"),
    [
        ("", "", Place(file=DEFAULT)),
        ("h.db", "", Place(file=Path("h.db"))),
        ("sqlite:////var/h.db", "", Place(file=Path("/var/h.db"))),
        (URL, "", Place(url=URL)),
        ("", SECRET, Place(url=SECRET)),
        ("h.db", SECRET, Place(file=Path("h.db"))),
        ("none", SECRET, None),
        ("", "none", None),
    ],
)
def test_an_option_counts_before_the_variable(option: str, variable: str, place: Place | None) -> None:
    assert chosen_place(option, variable, default=DEFAULT) == place


def test_a_password_on_the_command_line_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="CROSSFARM_HISTORY") as refused:
        read_place(SECRET)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in Place(url=SECRET).shown


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="give a file, sqlite:///PATH or postgresql://"):
        read_place("mysql://a:hunter2@b/c")


def test_the_history_stands_beside_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROSSFARM_HISTORY", raising=False)
    assert Options(store=Path("state/store")).history_place == Place(file=DEFAULT)
    monkeypatch.setenv("CROSSFARM_HISTORY", "elsewhere.db")
    assert Options().history_place == Place(file=Path("elsewhere.db"))
