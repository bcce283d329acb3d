"""The history in a file of DuckDB, which may be deleted: it is built again from the log. Nothing else knows duckdb."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    # What `duckdb` hands on. All that it loads around it takes a tenth of a question from the shell.
    import _duckdb as duckdb
except ImportError:  # another release, which keeps it elsewhere
    import duckdb  # type: ignore[no-redef]

from ops.history.tables.answers import (
    Answer,
    HistoryInUse,
    HistoryUnfit,
    HistoryUnwritable,
    QueryRefused,
    Question,
    collect_rows,
    ending_after,
    read_time_ms,
    require_reached,
)
from ops.history.tables.arrays import insert
from ops.history.tables.catalogue import compute_format, find_asked, make_definitions
from ops.history.tables.facts import Columns
from ops.history.tables.positions import Position
from ops.history.tables.projector import Mark
from schemas.canonical import decode, encode
from schemas.identifiers import TaskId
from schemas.journal import JournalPosition
from streams.log import TopicPartition

# What one question may take, so that a careless one ends itself and not the machine.
QUESTION_MEMORY = "2GB"
QUESTION_S_MAX = 300.0
# Taking in needs no more (what does not fit goes to the disk), and DuckDB keeps whatever it has room for.
WRITER_MEMORY = "48MB"
_OPTIONS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": WRITER_MEMORY,
    # What does not fit goes to the disk, of which DuckDB would take nine tenths.
    "max_temp_directory_size": "8GB",
    # It would guess the type of a column from its first values; all come as text instead, and are cast.
    "pandas_analyze_sample": 0,
    # All that is asked for is built in; a function of another extension would be looked for in the network.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

# An hour of batches or more: enough for everybody who comes back after a restart.
BATCHES_MAX = 20_000
_LOCKED, _DAMAGED = "Could not set lock", "Corrupt database file"
_REBUILD = "\nIf it was one, `fedlog history rebuild` builds it anew from the log."


@dataclass(frozen=True, slots=True)
class View:
    """How the tables are shown: as of when, and whether without what is for operators only."""

    as_of: str | None = None
    hides: bool = False


class HistoryAnswers:
    """Answers from a history; it may be asked from any thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._preparing, self._is_prepared = threading.Lock(), False

    def ask(
        self,
        sql: str,
        *,
        as_of: str | None = None,
        parameters: Mapping[str, object] | None = None,
        hides: bool = False,
    ) -> Answer:
        """The answer to one SELECT; `parameters` stand in it as $NAME.

        As of `TASK@VERSION`, a time in ISO 8601 or a position of this file the tables are what they were then.
        `hides`: the tables are what they are for somebody who is no operator. Raises QueryRefused.
        """
        return self.ask_all([(sql, parameters or {})], as_of=as_of, hides=hides)[0]

    __call__ = ask

    def ask_all(self, questions: Sequence[Question], *, as_of: str | None = None, hides: bool = False) -> list[Answer]:
        """The same of several, all at one position. Raises QueryRefused."""
        self._prepare()
        with contextlib.closing(self._connection.cursor()) as cursor:
            return _ask(cursor, questions, view=View(as_of, hides))

    def look(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT of our own, with the memory that taking in has."""
        return self._connection.cursor().execute(sql).fetchall()

    def _prepare(self) -> None:
        """Before the first question, in whichever thread: give it its memory, and from then on change nothing."""
        with self._preparing:
            if not self._is_prepared:
                with contextlib.closing(self._connection.cursor()) as cursor:
                    cursor.execute("SET memory_limit = ?", [QUESTION_MEMORY])
                    cursor.execute("SET lock_configuration = true")
                self._is_prepared = True

    def write_parquet(self, names: Iterable[str], folder: Path) -> Iterator[tuple[str, int]]:
        """Tables as files of Parquet in the folder that it was opened for, all of one moment; name and rows of each."""
        self._prepare()
        with contextlib.closing(self._connection.cursor()) as cursor, _transaction(cursor, kind="READ ONLY"):
            for name in names:
                target = str(folder / f"{name}.parquet").replace("'", "''")
                (count,) = cursor.execute(f"COPY (FROM {name}) TO '{target}' (FORMAT parquet)").fetchall()[0]
                yield name, count


class HistoryFile(HistoryAnswers):
    """A history that one process writes, and others of its threads may ask; a sink of `projector`."""

    def __init__(self, path: Path, *, identity: str, exports_to: Path | None = None) -> None:
        """`identity` names the log that it is of; `exports_to`: the only folder in which files may be made.

        Raises HistoryUnfit, HistoryInUse.
        """
        self._path = path
        try:
            if not path.exists():
                _begin(path, identity)
        # DuckDB's own errors are told by `_connect`.
        except OSError as error:
            raise HistoryUnfit(f"No history can be made at {path}: {error}.") from error
        super().__init__(_connect(path))
        # Before anything of it is read: what looks like a table of a file may be a view that reads other files.
        _close_ways_out(self._connection, exports_to=exports_to)
        _check(self._connection, path, identity=identity)
        self._moved = threading.Condition()
        self.position = _read_state(self._connection, None)[0]

    def wait(self, sequence: int, *, timeout_s: float) -> bool:
        """Wait until so many batches are stored; whether they are."""
        with self._moved:
            return self._moved.wait_for(lambda: self.position.sequence >= sequence, timeout_s)

    def read_marks(self) -> dict[TopicPartition, Mark]:
        """How far it is, by partition."""
        rows = self._connection.execute('SELECT topic, partition, "offset", time_ms, chain FROM marks').fetchall()
        return {
            TopicPartition(*at): Mark(offset, time_ms, None if chain is None else decode(chain, JournalPosition))
            for *at, offset, time_ms, chain in rows
        }

    def list_private(self) -> set[TaskId]:
        """The tasks that were created with privacy, as far as it is."""
        found = self._connection.execute(
            "SELECT DISTINCT task FROM facts.task_created WHERE policy -> 'privacy' ->> 'noise_multiplier' IS NOT NULL"
        )
        return {task for (task,) in found.fetchall()}

    def write(self, facts: Mapping[str, Sequence[Columns]], marks: Mapping[TopicPartition, Mark]) -> None:
        """Rows, marks and the number of the batch in one transaction. Raises HistoryUnwritable."""
        sequence = self.position.sequence + 1
        with _telling_failures(self._path), _transaction(self._connection):
            for name, parts in facts.items():
                for columns in parts:
                    insert(self._connection, f"facts.{name}", columns=columns, select=f"*, {sequence}")
            kept = [
                (*at, mark.offset, mark.time_ms, None if mark.chain is None else encode(mark.chain))
                for at, mark in marks.items()
            ]
            if kept:
                self._connection.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", kept)
            until_ms = max((mark.time_ms for mark in marks.values()), default=0)
            self._connection.execute("INSERT INTO batches VALUES (?, ?)", [sequence, until_ms])
            # The facts name their batch for ever; the list of batches is for those who come back soon.
            self._connection.execute("DELETE FROM batches WHERE sequence <= ?", [sequence - BATCHES_MAX])
        with self._moved:
            self.position = Position(self.position.generation, sequence)
            self._moved.notify_all()

    def close(self) -> None:
        """Close the file; what was written is on the disk."""
        self._connection.close()


@contextlib.contextmanager
def make_transient(*, exports_to: Path | None = None) -> Iterator[HistoryFile]:
    """A history that lies nowhere, for a log that is read once."""
    with tempfile.TemporaryDirectory(prefix="fedlog-history-") as folder:
        history = HistoryFile(Path(folder) / "history.duckdb", identity="", exports_to=exports_to)
        with contextlib.closing(history):
            yield history


@contextlib.contextmanager
def open_for_questions(path: Path, *, exports_to: Path | None = None) -> Iterator[HistoryAnswers]:
    """A history that is only asked. Raises HistoryUnfit, HistoryInUse."""
    with contextlib.closing(_connect(path, read_only=True)) as connection:
        _close_ways_out(connection, exports_to=exports_to)
        _check(connection, path)
        yield HistoryAnswers(connection)


def _ask(connection: duckdb.DuckDBPyConnection, questions: Sequence[Question], *, view: View) -> list[Answer]:
    try:
        asked = [sql for sql, _ in questions]
        for sql in asked:
            _require_question(connection, sql)
        if view != View():
            asked = _change_views(connection, asked, view=view)
        # Whatever else a SELECT may hold, it changes nothing.
        connection.execute("BEGIN TRANSACTION READ ONLY")
        with ending_after(QUESTION_S_MAX, connection.interrupt):
            named = zip(asked, questions, strict=True)
            found = [_collect(connection.execute(sql, dict(parameters))) for sql, (_, parameters) in named]
        # In the transaction of the answers: a batch that is stored meanwhile is not in them.
        position, until_ms = _read_state(connection, view.as_of)
        return [Answer(names, types, rows, until_ms, position) for names, types, rows in found]
    except duckdb.InterruptException as error:
        raise QueryRefused(f"The question was not answered within {QUESTION_S_MAX:.0f} s; ask for less.") from error
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) or _DAMAGED in str(error):
            raise HistoryUnfit(f"The file of the history cannot be read: {error}{_REBUILD}") from error
        raise QueryRefused(f"{error}") from error
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")


def _collect(found: duckdb.DuckDBPyConnection) -> tuple[list[str], list[str], list[Any]]:
    columns, rows = found.description or [], collect_rows(found.fetchmany)
    return [str(column[0]) for column in columns], [str(column[1]) for column in columns], rows


def require_unused(path: Path) -> None:
    """Raises HistoryInUse where a process writes the file; what else is wrong with it is no matter here."""
    if path.exists():
        with contextlib.suppress(HistoryUnfit):
            _connect(path, read_only=True).close()


def _read_state(connection: duckdb.DuckDBPyConnection, as_of: str | None) -> tuple[Position, int | None]:
    """Where it stands, and the append time of the newest record up to there, or to the position `as_of`."""
    asked = Position.parse(as_of or "")
    newest = "max(until_ms)" if asked is None else f"max(until_ms) FILTER (sequence <= {asked.sequence})"
    # All of it: a connection with an unfinished answer takes in no rows.
    sql = f"SELECT (SELECT generation FROM about), max(sequence), {newest} FROM batches"  # noqa: S608 - a number
    [(generation, sequence, until_ms)] = connection.execute(sql).fetchall()
    position = Position(generation, sequence or 0)
    require_reached(asked, position)
    return position, until_ms


def _require_question(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    # A second statement could end the read-only transaction of the first.
    statements = connection.extract_statements(sql)
    allowed = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in allowed:
        raise QueryRefused("One SELECT at a time, and nothing else: the history is read only.")


def _find_time_ms(connection: duckdb.DuckDBPyConnection, as_of: str) -> int:
    task, at, version = as_of.partition("@")
    if not at:
        return read_time_ms(as_of)
    sql = "SELECT min(at_ms) FROM facts.model_published WHERE task = ? AND version = try_cast(? AS BIGINT)"
    [(at_ms,)] = connection.execute(sql, [task, version]).fetchall()
    if at_ms is None:
        raise QueryRefused(f"No version {version} of a task {task!r} is in the history.")
    return int(at_ms)


def _find_condition(connection: duckdb.DuckDBPyConnection, as_of: str) -> str:
    """Which facts were there: all up to a position of this file, or all that were appended until a time."""
    if (position := Position.parse(as_of)) is not None:
        return f"at_sequence <= {position.sequence}"
    as_of_ms = _find_time_ms(connection, as_of)
    first = connection.execute("SELECT min(at_ms) FROM facts.writer_claimed").fetchone()
    if first is None or first[0] is None or as_of_ms < first[0]:
        raise QueryRefused("Nothing had happened by then: the history begins later.")
    return f"at_ms <= {as_of_ms}"


def _change_views(connection: duckdb.DuckDBPyConnection, questions: Sequence[str], *, view: View) -> list[str]:
    """Show the tables as `view` says; the questions, with the same conditions on the facts that they name."""
    until = None if view.as_of is None else _find_condition(connection, view.as_of)

    def parse(sql: str) -> Any:
        return json.loads(connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])

    asked = [find_asked(sql, parse) for sql in questions]
    # Beside the views of a connection stand facts and the file's own views, which hide nothing and know the present.
    if other := next((one.other for one in asked if one.other), ""):
        raise QueryRefused(
            f"{other} cannot be asked as of another time, nor by who is no operator: ask, in one SELECT, the "
            "tables of `fedlog query --schema` by their plain names, and facts as facts.NAME, in small letters."
        )
    # Of this connection alone, where they hide the views of the same names; the others cost time and nobody sees them.
    views = {name: query for one in asked for name, query in one.make_views(until, hides=view.hides).items()}
    for name, query in views.items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")
    return [one.sql for one in asked]


def _connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), read_only=read_only, config=_OPTIONS)
    except duckdb.Error as error:
        # The second is what it says to a process that has the file open in another way.
        if _LOCKED in str(error) or isinstance(error, duckdb.ConnectionException):
            raise HistoryInUse(f"{path} is being written by another process: {error}") from error
        raise HistoryUnfit(f"{path} cannot be opened as a history: {error}{_REBUILD}") from error


@contextlib.contextmanager
def _telling_failures(path: Path) -> Iterator[None]:
    try:
        yield
    # The disk and the file; a row that does not fit is a fault of ours, and says where it was made.
    except duckdb.OperationalError as error:
        raise HistoryUnwritable(f"{path} cannot be written: {error}\nWhat was stored before is whole.") from error


def _begin(path: Path, identity: str) -> None:
    """Put an empty history at `path`, all of it at once: half a file would be taken for somebody else's for ever."""
    fresh = path.with_name(path.name + ".begun")
    # What somebody has left who died here; who is at work in it keeps others out, until it is in its place.
    if fresh.exists():
        with contextlib.suppress(HistoryUnfit):
            _connect(fresh).close()
        fresh.unlink(missing_ok=True)
    with contextlib.closing(_connect(fresh)) as connection:
        _create(connection, identity)
        # Into the file itself: what waits beside it bears the other name.
        connection.execute("CHECKPOINT")
        fresh.chmod(0o600)
        # A link and no move: another process may have been quicker, and its file stays.
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        # Not every file system has links, and there two that are as quick as each other are very rare.
        except OSError:
            fresh.rename(path)
        fresh.unlink(missing_ok=True)


def _create(connection: duckdb.DuckDBPyConnection, identity: str) -> None:
    with _transaction(connection):
        for statement in make_definitions():
            connection.execute(statement)
        connection.execute(
            'CREATE TABLE marks (topic VARCHAR, partition INTEGER, "offset" BIGINT, time_ms BIGINT, chain BLOB, '
            "PRIMARY KEY (topic, partition))"
        )
        connection.execute("CREATE TABLE batches (sequence BIGINT, until_ms BIGINT)")
        connection.execute("CREATE TABLE about (format VARCHAR, identity VARCHAR, generation VARCHAR)")
        # Drawn: whoever holds a position of a deleted file must not take it for one of this file.
        about = [compute_format(), identity, secrets.token_hex(8)]
        connection.execute("INSERT INTO about VALUES (?, ?, ?)", about)


def _check(connection: duckdb.DuckDBPyConnection, path: Path, *, identity: str | None = None) -> None:
    try:
        found = connection.execute("SELECT format, identity FROM about").fetchone()
    except duckdb.Error:
        found = None
    if found is None:
        raise HistoryUnfit(f"{path} is no history of fedlog; name another file.")
    # Before the identity: another release may have written that in another way.
    if found[0] != compute_format():
        raise HistoryUnfit(f"{path} was written by another release; `fedlog history rebuild` builds it anew.")
    if identity not in (None, found[1]):
        raise HistoryUnfit(f"{path} is the history of another log; name another file, or `fedlog history rebuild`.")


def _close_ways_out(connection: duckdb.DuckDBPyConnection, *, exports_to: Path | None = None) -> None:
    """Close the ways out: files and extensions. DuckDB lets nobody open them again while the file is open."""
    if exports_to is not None:
        connection.execute("SET allowed_directories = ?", [[str(exports_to)]])
    connection.execute("SET enable_external_access = false")


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, *, kind: str = "") -> Iterator[None]:
    connection.execute(f"BEGIN TRANSACTION {kind}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
