"""The salts behind the pseudonyms: a file that only its owner may read, beside the keys and never in the log.

It holds no name: each line is the mark of a name, which nobody can try without the deployment's key, and the salt that
leads from it to the subject in the log. To forget a subject is to delete its salt; the mark stays, so that the same
name is known again and refused. A log could not do that: what stands in it is there for ever, and on every replica.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events.enrolment import SubjectId
from schemas.identity.pseudonyms import derive_subject

SALT_BYTES = 32
FILE = "subjects.vault"
_TABLE = "CREATE TABLE IF NOT EXISTS subjects (mark BLOB PRIMARY KEY, salt BLOB) WITHOUT ROWID"


class SubjectForgotten(FedlogError):
    """Somebody of that name asked to be forgotten in this population, and cannot enrol there again."""

    exit_code = EXIT_USAGE
    code = "subject_forgotten"


class SubjectUnknown(FedlogError):
    """No salt in this vault leads to that subject: another machine made its token, or nobody named it."""

    exit_code = EXIT_USAGE
    code = "subject_unknown"


class Vault:
    """The vault in one file; each call is a transaction of its own, so that two commands may run at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Before anything is in it: whoever reads it can follow a subject back to a name they have.
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)

    def find_or_draw(self, mark: bytes) -> SubjectId:
        """The subject of a mark, whose salt the first call draws. Raises SubjectForgotten."""
        with self._open() as file:
            file.execute("INSERT OR IGNORE INTO subjects VALUES (?, ?)", (mark, secrets.token_bytes(SALT_BYTES)))
            [[salt]] = file.execute("SELECT salt FROM subjects WHERE mark = ?", (mark,))
        if salt is None:
            raise SubjectForgotten
        return derive_subject(salt, mark)

    def find_mark(self, subject: SubjectId) -> bytes:
        """The mark that leads to a subject. Raises SubjectUnknown."""
        with self._open() as file:
            for mark, salt in file.execute("SELECT mark, salt FROM subjects WHERE salt IS NOT NULL"):
                if derive_subject(salt, mark) == subject:
                    return bytes(mark)
        raise SubjectUnknown

    def forget(self, mark: bytes) -> None:
        """Delete the salt of a mark, and leave the mark."""
        with self._open() as file:
            file.execute("UPDATE subjects SET salt = NULL WHERE mark = ?", (mark,))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as file:
            # What is deleted is overwritten with zeros, as far as a file system writes where it is told to.
            file.execute("PRAGMA secure_delete = ON")
            with file:
                file.execute(_TABLE)
                yield file
