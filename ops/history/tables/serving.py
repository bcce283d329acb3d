"""Questions to a history that another process is writing, over a socket that lies beside it in the private folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from ops.history.tables.answers import Answer, QueryRefused, Question
from ops.history.tables.positions import Position
from schemas.errors import FedlogError

if TYPE_CHECKING:
    from ops.history.tables.duckdb_file import HistoryFile

_LENGTH = struct.Struct(">Q")
_QUESTION_BYTES_MAX = 1 << 20
# What a question or its answer may take to be handed over; how long DuckDB takes is not limited.
_HAND_OVER_S = 30.0
_WAIT_S_MAX = 30.0
# A page that waits for longer is of no use; whoever asks in a terminal waits for as long as a question takes.
PATIENCE_S = 12.0
# Then whoever asks is told what is known by now, and up to when.
_READY_S = 30.0
_NAME_BYTES_MAX = 80


def _keep(value: Any) -> Any:
    return value


# What a message holds as text, by its type in SQL.
_READERS: dict[str, Callable[[Any], Any]] = {
    "TIMESTAMP": lambda text: text and datetime.fromisoformat(text),
    "DATE": lambda text: text and date.fromisoformat(text),
    "DECIMAL": lambda text: text and Decimal(text),
    "HUGEINT": lambda number: None if number is None else int(number),
}


class _Question(msgspec.Struct, frozen=True):
    sql: str
    as_of: str | None = None
    parameters: dict[str, Any] = {}
    hides: bool = False
    # The answer may wait until so many batches are stored, and for so long.
    sequence: int = 0
    wait_s: float = 0.0
    # Further questions, to be answered at the same position.
    more: list[tuple[str, dict[str, Any]]] = []


class _Reply(msgspec.Struct, frozen=True):
    refused: str = ""
    columns: list[str] = []
    types: list[str] = []
    rows: list[list[Any]] = []
    until_ms: int | None = None
    position: str = ""
    more: list[_Reply] = []


class WriterGone(FedlogError):
    """The process that writes a history has ended in the midst of an answer."""

    code = "writer_gone"


class SocketUnusable(FedlogError):
    """No socket can be made beside the history, so that nobody could ask while it is written."""

    code = "socket_unusable"


def find_socket(path: Path) -> Path:
    """Where the writer of the history `path` answers."""
    name = path.name + ".sock"
    # A file's name may be longer than the whole address of a socket.
    if len(os.fsencode(name)) > _NAME_BYTES_MAX:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16] + ".sock"
    return path.with_name(name)


class HistoryServer:
    """Answers questions about a history while it is written. Use it as a context, which raises SocketUnusable."""

    def __init__(self, path: Path, history: HistoryFile, *, ready: threading.Event | None = None) -> None:
        """Questions wait for `ready`, but not for ever."""
        self._history, self._path, self._ready = history, find_socket(path), ready
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        # The writer of a history is alone: whatever lies there is what a killed one has left.
        try:
            self._path.unlink(missing_ok=True)
            with _shorten(self._path) as address:
                self._socket.bind(address)
            # As the file, and before anybody can connect: a group may write into the folder of `--file`.
            self._path.chmod(0o600)
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise SocketUnusable(f"No socket can be made at {self._path}: {error}; name another --file.") from error
        # A thread that ends with the process: an open question must not keep it alive.
        threading.Thread(target=self._accept, name="history", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # `close` alone would leave the accepting thread where it waits.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # A thread each: a long question must not hold up the others.
            threading.Thread(target=self._serve, args=(connection,), name="question", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, msgspec.MsgspecError):
            connection.settimeout(_HAND_OVER_S)
            # Whoever reaches the socket may read the file too, so that nobody is asked for a password.
            question = msgspec.msgpack.decode(_receive(connection, limit=_QUESTION_BYTES_MAX), type=_Question)
            if self._ready is not None:
                self._ready.wait(_READY_S)
            try:
                # On a cursor of its own, so that the writer's transaction is not seen half-way.
                reply = self._answer(question)
            except QueryRefused as error:
                reply = _Reply(refused=str(error))
            _send(connection, _encode(reply))

    def _answer(self, question: _Question) -> _Reply:
        # A bound of our own: threads that wait for ever would pile up.
        if question.sequence:
            self._history.wait(question.sequence, timeout_s=min(question.wait_s, _WAIT_S_MAX))
        questions: list[Question] = [(question.sql, question.parameters), *question.more]
        found = self._history.ask_all(questions, as_of=question.as_of, hides=question.hides)
        replies = [
            _Reply(
                columns=one.columns,
                types=one.types,
                rows=[list(row) for row in one.rows],
                until_ms=one.until_ms,
                position=str(one.position),
            )
            for one in found
        ]
        return msgspec.structs.replace(replies[0], more=replies[1:])


def ask_writer(
    path: Path,
    sql: str,
    *,
    as_of: str | None = None,
    parameters: Mapping[str, object] | None = None,
    hides: bool = False,
) -> Answer:
    """The answer of the process that writes the history `path`. Raises QueryRefused, WriterGone."""
    return ask_writer_all(path, [(sql, parameters or {})], as_of=as_of, hides=hides)[0]


def ask_writer_all(
    path: Path,
    questions: Sequence[Question],
    *,
    as_of: str | None = None,
    hides: bool = False,
    patience_s: float | None = None,
) -> list[Answer]:
    """The same of several, all at one position; without `patience_s` for as long as it takes.

    Raises QueryRefused, WriterGone.
    """
    (sql, parameters), *more = [(sql, dict(parameters)) for sql, parameters in questions]
    answers = _ask(path, _Question(sql, as_of, parameters, hides, more=more), patience_s=patience_s)
    # A writer of an earlier release answers the first alone.
    if len(answers) != len(questions):
        raise WriterGone(f"Who writes {path} is of an earlier release: start it again.")
    return answers


def wait_for_writer(path: Path, sequence: int, *, timeout_s: float) -> Position | None:
    """Where the history stands once so many batches are stored, or the time is over. Raises WriterGone.

    None: who writes it is of an earlier release, and knows no positions.
    """
    question = _Question("SELECT 1", sequence=sequence, wait_s=timeout_s)
    return _ask(path, question, patience_s=timeout_s + PATIENCE_S)[0].position


def _ask(path: Path, question: _Question, *, patience_s: float | None) -> list[Answer]:
    try:
        with _connect(path) as connection:
            # One that is frozen takes questions for ever, and answers none.
            connection.settimeout(patience_s)
            _send(connection, msgspec.msgpack.encode(question, enc_hook=str))
            reply = msgspec.msgpack.decode(_receive(connection), type=_Reply)
    except TimeoutError as error:
        raise WriterGone(f"Who writes {path} has not answered within {patience_s:g} s: it is stuck.") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise WriterGone(f"Who writes {path} has ended before it answered ({error}); ask again.") from error
    if reply.refused:
        raise QueryRefused(reply.refused)
    return [_read_answer(one) for one in (reply, *reply.more)]


def _read_answer(reply: _Reply) -> Answer:
    readers = [_READERS.get(kind.partition("(")[0], _keep) for kind in reply.types]
    rows = [tuple(read(value) for read, value in zip(readers, row, strict=True)) for row in reply.rows]
    return Answer(reply.columns, reply.types, rows, reply.until_ms, Position.parse(reply.position))


def is_served(path: Path) -> bool:
    """Whether a process writes the history `path` and answers; one that was killed leaves its socket behind."""
    try:
        _connect(path).close()
    except OSError:
        return False
    return True


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _shorten(find_socket(path)) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _shorten(path: Path) -> Iterator[str]:
    """The path as a socket's address, of which the kernel takes 107 bytes; a longer one leads through the folder."""
    if len(os.fsencode(path)) <= 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _encode(reply: _Reply) -> bytes:
    try:
        return msgspec.msgpack.encode(reply, enc_hook=str)
    # Sums of SQL have 128 bits, which no message takes as a number.
    except OverflowError:
        return msgspec.msgpack.encode(_fit_rows(reply), enc_hook=str)


def _fit_rows(reply: _Reply) -> _Reply:
    rows, more = [[_fit(value) for value in row] for row in reply.rows], [_fit_rows(one) for one in reply.more]
    return msgspec.structs.replace(reply, rows=rows, more=more)


def _fit(value: Any) -> Any:
    return str(value) if isinstance(value, int) and value.bit_length() > 63 else value


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)) + data)


def _receive(connection: socket.socket, *, limit: int = 1 << 40) -> bytes:
    (length,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    if length > limit:
        raise OSError(f"a message of {length:,} bytes")
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            raise OSError("the other side has ended")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
