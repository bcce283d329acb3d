"""What `fedlog verify` found last, as a note in the folder for whoever looks at its pages. It proves nothing to others.

Written by the command, read by the page.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

FILE = "verified.json"


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where one journal was followed: every record below `end`."""

    topic: str
    partition: int
    end: int
    is_whole: bool


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """One verification of the log: when it ended by this machine's clock, what it reached, and what it found.

    `knew_operator`: signatures were compared with the operator's key, and not only with the keys that they name.
    """

    at_ms: int
    journals: tuple[Reached, ...]
    findings: int
    knew_operator: bool

    @classmethod
    def make(cls, journals: Sequence[Reached], *, findings: int, knew_operator: bool) -> Self:
        """One that ends now."""
        at_ms = time.time_ns() // 1_000_000
        return cls(at_ms=at_ms, journals=tuple(journals), findings=findings, knew_operator=knew_operator)


def leave(folder: Path, verified: Verified) -> None:
    """Put the note into the folder, all of it at once; nothing where the folder may not be written."""
    fresh = folder / f"{FILE}.{os.getpid()}"
    try:
        fresh.write_bytes(msgspec.json.encode(verified))
        fresh.replace(folder / FILE)
    # Whoever only reads may verify too, and leaves no note.
    except OSError:
        fresh.unlink(missing_ok=True)


def find(folder: Path) -> Verified | None:
    """The note of the last verification; None where there is none, or none that this release can read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Verified)
    except (OSError, msgspec.MsgspecError):
        return None
