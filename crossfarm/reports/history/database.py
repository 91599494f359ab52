"""The database of the history: makes and migrates its tables, reads runs and series, adds and deletes runs.

SQLAlchemy speaks to both kinds, and Alembic migrates. One writes at a time: SQLite locks the file, and PostgreSQL has
an advisory lock for it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import sqlalchemy as sa

from crossfarm.errors import ConfigError, HistoryError, nearest
from crossfarm.reports.history import tables
from crossfarm.reports.history.columns import COLUMNS, NUMBERS, SCHEMA, VERSION_TABLE
from crossfarm.reports.history.insert import Cursor, delete_run, insert_run
from crossfarm.reports.history.kept_run import KeptCell, KeptCheck, KeptNumber, KeptRun, unpack
from crossfarm.reports.history.place import Place
from crossfarm.reports.history.sqlite_file import BUSY_SECONDS, advice
from crossfarm.util.database_url import without_secrets
from crossfarm.util.text import one_line

_LOCK_NUMBER = 0x63726F7374
"""PostgreSQL's advisory lock of those that write; the one of the leases is another."""
_IDLE_MILLISECONDS = 60_000
_MOST_VALUES = 500
"""In one IN (...): SQLite takes 999 values in a statement at least."""

_Result = TypeVar("_Result")


class History:
    """A history; used by one thread, and closed at the end."""

    def __init__(self, place: Place, *, busy_seconds: float = BUSY_SECONDS, make: bool = True) -> None:
        """Connect, and make or migrate the tables.

        Args:
            place: where it is.
            busy_seconds: how long to wait for another who writes.
            make: whether a history that is not there is made.

        Raises:
            HistoryError: it cannot be reached or used, is of a newer version, or is not there and not to be made.
        """
        self.place = place
        self._mark = "?" if place.file is not None else "%s"
        if place.file is not None and not make and not place.file.exists():
            raise HistoryError(f"{place.shown}: there is no history yet; the first ./inv pipeline makes it")
        self._engine = _sqlite(place.file, busy_seconds) if place.file is not None else _postgresql(place, busy_seconds)
        try:
            if self._schema() != SCHEMA:
                self._transaction(self._migrate)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add(self, run: KeptRun, *, live: bool = False) -> bool:
        """Add a run unless it is there; see insert_run. Returns whether it was added.

        Raises:
            HistoryError: the database is locked, full or gone.
        """
        return self._transaction(lambda cursor: insert_run(cursor, run, mark=self._mark, live=live))

    def add_all(self, runs: Sequence[KeptRun]) -> int:
        """Add runs in one transaction, all of them or, when it fails, none; returns how many were not there.

        Raises:
            HistoryError: the database is locked, full or gone.
        """
        return self._transaction(
            lambda cursor: sum(insert_run(cursor, run, mark=self._mark, live=False) for run in runs)
        )

    def run_ids(self, *, since: float | None = None) -> tuple[str, ...]:
        """Return the ids of all runs, oldest first; or of those that ended at a time or later."""
        query = sa.select(tables.runs.c.run).order_by(tables.runs.c.position, tables.runs.c.number)
        return tuple(self._rows(query if since is None else query.where(tables.runs.c.position >= since), 0))

    def find(self, name: str) -> str | None:
        """Return the id of the run that is meant by its id, the beginning of it, or a commit of the project; else None.

        Of several runs of a commit it is the newest.

        Raises:
            ConfigError: several ids begin so.
        """
        ids = self.run_ids()
        if name in ids:
            return name
        found = [run for run in ids if run.startswith(name)]
        if len(found) > 1:
            raise ConfigError(f"{name}: {len(found)} runs begin so: {', '.join(found[:3])}...; give more of the id")
        if found:
            return found[0]
        commits = self._rows(
            sa.select(tables.runs.c.run)
            .where(tables.runs.c.git_commit.startswith(name, autoescape=True))
            .order_by(tables.runs.c.position.desc(), tables.runs.c.number.desc())
            .limit(1),
            0,
        )
        return commits[0] if commits else None

    def unknown(self, name: str) -> ConfigError:
        """Return the error for a run that is not there."""
        ids = self.run_ids()
        last = f"; the last one is {ids[-1]}" if ids else "; it has none"
        return ConfigError(f"{name}: no run of the history {self.place.shown} is called so{nearest(name, ids) or last}")

    def read(self, run: str) -> KeptRun:
        """Return a run with all that is kept of it.

        Raises:
            ConfigError: there is no such run.
            HistoryError: the database cannot be read.
        """
        runs = self._read(tables.runs.c.run == run)
        if not runs:
            raise self.unknown(run)
        return runs[0]

    def read_all(self, runs: Sequence[str]) -> Iterator[KeptRun]:
        """Yield runs, one after another."""
        for run in runs:
            yield self.read(run)

    def before(self, run: KeptRun, *, runs: int, names: Sequence[str] = ()) -> tuple[KeptRun, ...]:
        """Return the runs before a run in the order of the history, oldest first; all, when it is not in the history.

        Args:
            run: the run.
            runs: at most so many, the last ones.
            names: with these numbers alone, and without checks; empty for all.
        """
        table = tables.runs
        position = self._rows(sa.select(table.c.position).where(table.c.run == run.run), 0)
        others = table.c.run != run.run
        which = sa.and_(others, table.c.position <= position[0]) if position else others
        return self._read(which, newest=runs, names=names if len(names) <= _MOST_VALUES else ())

    def of_model(self, model: str, *, targets: Sequence[str] = (), metric: str, runs: int) -> tuple[KeptRun, ...]:
        """Return the last runs that hold a number of a model, oldest first, with its cells and that number alone."""
        cells, numbers = tables.cells, tables.numbers
        chosen = [cells.c.model == model, *([cells.c.target.in_(targets)] if targets else [])]
        has = sa.select(cells.c.run).join(numbers, numbers.c.cell == cells.c.number)
        has = has.where(*chosen, numbers.c.name == metric)
        return self._read(tables.runs.c.number.in_(has), newest=runs, cells=chosen, names=(metric,))

    def models(self) -> tuple[str, ...]:
        """Return the names of all models."""
        return tuple(self._rows(sa.select(tables.cells.c.model).distinct().order_by(tables.cells.c.model), 0))

    def metrics(self, model: str) -> tuple[str, ...]:
        """Return the names of all numbers of a model."""
        cells, numbers = tables.cells, tables.numbers
        joined = sa.select(numbers.c.name).join(cells, numbers.c.cell == cells.c.number).where(cells.c.model == model)
        return tuple(self._rows(joined.distinct().order_by(numbers.c.name), 0))

    def delete(self, runs: Sequence[str]) -> int:
        """Delete runs and give their room back; returns how many there were.

        Raises:
            HistoryError: the database is locked or gone.
        """

        def work(cursor: Cursor) -> int:
            deleted = 0
            for run in runs:
                cursor.execute(f"SELECT number FROM {tables.runs.name} WHERE run = {self._mark}", (run,))  # noqa: S608
                if (found := cursor.fetchone()) is not None:
                    delete_run(cursor, found[0], mark=self._mark)
                    deleted += 1
            return deleted

        deleted = self._transaction(work)
        if deleted and self.place.file is not None:
            with self._told(), self._engine.connect() as connection:
                connection.exec_driver_sql("VACUUM")
        return deleted

    def _read(
        self,
        which: sa.ColumnElement[bool],
        *,
        newest: int | None = None,
        cells: Sequence[sa.ColumnElement[bool]] = (),
        names: Sequence[str] = (),
    ) -> tuple[KeptRun, ...]:
        runs = tables.runs
        query = sa.select(runs).where(which).order_by(runs.c.position.desc(), runs.c.number.desc())
        with self._reading() as connection:
            found = connection.execute(query.limit(newest) if newest is not None else query).all()[::-1]
            try:
                by_run = _cells(connection, [row.number for row in found], cells, names)
            except (TypeError, ValueError) as error:  # SQLite lets any column hold anything
                raise HistoryError(f"{self.place.shown}: it is damaged: {one_line(str(error))}") from error
        return tuple(
            KeptRun(
                **{name: getattr(row, name) for name in _OF_RUN},
                interrupted=bool(row.interrupted),
                cells=tuple(by_run.get(row.number, ())),
            )
            for row in found
        )

    def _rows(self, query: sa.Select[Any], column: int) -> list[Any]:
        with self._reading() as connection:
            return [row[column] for row in connection.execute(query)]

    def _schema(self) -> str | None:
        with self._reading() as connection:
            return _revision(connection)

    def _migrate(self, connection: sa.Connection) -> None:
        """Bring the tables to the present revision, unless another process has done so since."""
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        found = _revision(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise HistoryError(
                f"{self.place.shown}: its tables are of a newer crossfarm (revision {one_line(found, 40)}, this one "
                f"knows {SCHEMA}); update crossfarm, or give another --history"
            )
        command.upgrade(config, "head")

    def _transaction(self, work: Callable[..., _Result]) -> _Result:
        """Run `work` alone, with a cursor of the driver, or with the connection when it is the migration."""
        with self._told(), self._engine.connect() as connection, connection.begin():
            if self.place.file is not None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
            if work == self._migrate:
                return work(connection)
            driver = connection.connection.driver_connection
            return work(cast(Any, driver).cursor())

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Yield a connection all of whose queries see the same state."""
        with self._told(), self._engine.connect() as connection:
            if self.place.file is not None:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
            raise self._failed(cause) from error
        except HistoryError:
            raise
        except Exception as error:
            if not type(error).__module__.startswith(("sqlite3", "psycopg")):
                raise
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> HistoryError:
        said = str(error) if self.place.file is not None else without_secrets(str(error), self.place.url)
        return HistoryError(f"{self.place.shown}: {one_line(said)}{advice(said)}")


_OF_RUN = (
    *("run", "position", "started", "command", "version", "tools", "git_commit", "host"),
    *("exit_code", "seconds"),
)


def _cells(
    connection: sa.Connection,
    runs: Sequence[int],
    chosen: Sequence[sa.ColumnElement[bool]],
    names: Sequence[str],
) -> dict[int, list[KeptCell]]:
    """Return the cells of runs, by the number of the run."""
    found: dict[int, list[KeptCell]] = {}
    for at in range(0, len(runs), _MOST_VALUES):
        part = runs[at : at + _MOST_VALUES]
        cells, numbers, checks = tables.cells, tables.numbers, tables.checks
        in_part = [cells.c.run.in_(part), *chosen]
        named = [numbers.c.name.in_(names)] if names else []
        of_cells: dict[int, dict[str, KeptNumber]] = {}
        with_cells = sa.select(*(numbers.c[name] for name in COLUMNS[NUMBERS])).order_by(numbers.c.cell, numbers.c.name)
        with_cells = with_cells.join(cells, numbers.c.cell == cells.c.number).where(*in_part, *named)
        for of, name, value, unit, samples, provenance in connection.execute(with_cells).all():
            of_cells.setdefault(of, {})[name] = KeptNumber(
                name=name,
                value=math.nan if value is None else float(value),
                unit=unit,
                samples=unpack(samples) if samples else (),
                provenance=provenance,
            )
        checked: dict[int, dict[str, KeptCheck]] = {}
        of_checks = sa.select(checks).join(cells, checks.c.cell == cells.c.number).where(*in_part)
        for row in () if names else connection.execute(of_checks.order_by(checks.c.cell, checks.c.name)).all():
            checked.setdefault(row.cell, {})[row.name] = KeptCheck(
                **{name: getattr(row, name) for name in _OF_CHECK}, limit=row.limit_value
            )
        order = sa.select(cells).where(*in_part).order_by(cells.c.run, cells.c.place)
        for row in connection.execute(order).all():
            found.setdefault(row.run, []).append(
                KeptCell(
                    **{name: getattr(row, name) for name in _OF_CELL},
                    numbers=of_cells.get(row.number, {}),
                    checks=checked.get(row.number, {}),
                )
            )
    return found


_OF_CELL = (
    *("cell", "target", "model", "variant", "state", "cause", "board", "timing", "provenance", "bundle"),
    "command",
)
_OF_CHECK = ("name", "status", "value", "unit", "message", "note", "cases")


def _revision(connection: sa.Connection) -> str | None:
    """Return the revision of the tables; None where there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).first()  # noqa: S608
    return str(found[0]) if found else None


def _sqlite(path: Path, busy_seconds: float) -> sa.Engine:
    """Return an engine whose transactions begin with the right to write; a mere read takes none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(f"{one_line(str(path.parent))}: {error.strerror}; give another --history") from error
    return sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        poolclass=sa.NullPool,
    )


def _postgresql(place: Place, busy_seconds: float) -> sa.Engine:
    try:
        url = sa.make_url(place.url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            url,
            poolclass=sa.NullPool,
            connect_args={"connect_timeout": max(1, round(busy_seconds))},
            hide_parameters=True,
        )
    except (sa.exc.ArgumentError, ValueError) as error:
        raise HistoryError(
            f"{place.shown}: its URL cannot be read; write postgresql://USER@HOST/NAME for --history"
        ) from error

    def connected(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        # A client that is stopped in a transaction must not hold up all others, nor wait without end for them.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_MILLISECONDS}")
        cursor.execute(f"SET lock_timeout = {max(1, round(busy_seconds * 1000))}")
        cursor.close()
        connection.commit()

    sa.event.listen(engine, "connect", connected)
    return engine
