"""What became of each update, in rows of one block of bytes: 25 bytes in a snapshot, and less than 50 in memory.

An aggregator remembers an outcome until ten minutes after its deadline. At 1,500 updates a second these are a million,
and as objects they took 500 MB.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from struct import Struct

_KEY_BYTES = 16
_ROW = Struct(f"<{_KEY_BYTES}sqB")  # the lease, its deadline, and the number of its word
_FREE = 0xFFFF_FFFF
_SLOTS_MIN = 64


class _Index:
    """Finds a row by its lease; follows from the rows alone, and is in no digest.

    A table of row numbers with open addressing, at most half full: a dictionary has an object a key. Rows are numbered
    on as the oldest are dropped; `_begin` is the number of the first that is left.
    """

    __slots__ = ("_begin", "_slots")
    rows: bytearray

    def __post_init__(self) -> None:
        self._begin = 0
        size = _SLOTS_MIN
        while size < 2 * (len(self) + 1):
            size *= 2
        self._slots = array("I", [_FREE]) * size
        for number in range(len(self)):
            self._slots[self._find_slot(self._read_key(number))] = number

    def __len__(self) -> int:
        return len(self.rows) // _ROW.size

    def _find_slot(self, key: bytes) -> int:
        """Where the number of this lease's row stands, or else would."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = hash(key) & mask
        while (number := slots[slot]) != _FREE and self._read_key(number) != key:
            slot = (slot + 1) & mask
        return slot

    def _read_key(self, number: int) -> bytes:
        at = (number - self._begin) * _ROW.size
        return bytes(self.rows[at : at + _KEY_BYTES])

    def _insert(self, slot: int) -> None:
        """Number a row that has just been added."""
        number = self._begin + len(self) - 1
        if 2 * len(self) > len(self._slots) or number >= _FREE:
            # Numbered anew, in a larger table.
            self.__post_init__()
        else:
            self._slots[slot] = number

    def _remove(self, key: bytes) -> None:
        """Take a row's number out, and close the gap, so that no search ends there too early."""
        slots, mask = self._slots, len(self._slots) - 1
        gap = slot = self._find_slot(key)
        while (number := slots[slot := (slot + 1) & mask]) != _FREE:
            home = hash(self._read_key(number)) & mask
            if (slot - home) & mask >= (slot - gap) & mask:
                slots[gap], gap = number, slot
        slots[gap] = _FREE

    def _drop(self, count: int) -> None:
        """Drop the oldest rows, whose numbers have been taken out."""
        del self.rows[: count * _ROW.size]
        self._begin += count


@dataclass(slots=True)
class Outcomes(_Index):
    """Outcomes by lease, the oldest first; `words` are the outcomes that there are, in the order of their first use."""

    words: list[str] = field(default_factory=list)
    rows: bytearray = field(default_factory=bytearray)

    def __contains__(self, lease: str) -> bool:
        return self._slots[self._find_slot(bytes.fromhex(lease))] != _FREE

    def find(self, lease: str) -> str | None:
        """What became of the update under this lease; None where nothing is remembered."""
        number = self._slots[self._find_slot(bytes.fromhex(lease))]
        return None if number == _FREE else self.words[self._read_row(number - self._begin)[2]]

    def add(self, lease: str, outcome: str, *, deadline_ms: int) -> None:
        """Remember an outcome, of which a lease has one: the first."""
        slot = self._find_slot(key := bytes.fromhex(lease))
        if self._slots[slot] != _FREE:
            return
        if outcome not in self.words:
            self.words.append(outcome)
        self.rows += _ROW.pack(key, deadline_ms, self.words.index(outcome))
        self._insert(slot)

    def forget(self, before_ms: int) -> None:
        """Drop the oldest ones up to the first whose deadline is not before this time."""
        gone = 0
        while gone < len(self) and (row := self._read_row(gone))[1] < before_ms:
            self._remove(row[0])
            gone += 1
        self._drop(gone)

    def _read_row(self, place: int) -> tuple[bytes, int, int]:
        key, deadline_ms, word = _ROW.unpack_from(self.rows, place * _ROW.size)
        return key, deadline_ms, word
