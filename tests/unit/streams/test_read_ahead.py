"""Records read ahead are the same records, in order, few at a time, and with the same end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from streams.log import Record
from streams.read_ahead import ReadAhead

PATIENCE_S = 60.0


def _make_record(number: int, size: int = 10) -> Record:
    return Record("rounds", 0, number, number, None, bytes(size))


class _Source:
    """Counts what it has handed out, and says when it was closed."""

    def __init__(self, count: int, *, error: Exception | None = None, size: int = 10) -> None:
        self.given, self.closed, self.threads = 0, threading.Event(), set[str]()
        self._count, self._error, self._size = count, error, size

    def read(self) -> Iterator[Record]:
        try:
            for number in range(self._count):
                self.given += 1
                self.threads.add(threading.current_thread().name)
                yield _make_record(number, self._size)
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


def _wait_until_still(source: _Source) -> int:
    """How many it has given when it gives no more."""
    seen, give_up_s = -1, time.monotonic() + PATIENCE_S
    while seen != source.given and time.monotonic() < give_up_s:
        seen = source.given
        time.sleep(0.05)
    return seen


def test_all_come_in_order_and_once() -> None:
    """From another thread than the one that uses them, which begins before anybody asks."""
    source = _Source(1_000)
    records = ReadAhead(source.read())
    assert _wait_until_still(source) > 0
    assert [record.offset for record in records] == [*range(1_000)]
    assert source.threads == {"read-ahead"}
    assert [*records] == []


def test_what_lies_ready_is_bounded() -> None:
    """However slow its user is; and one record that is larger than the bound comes all the same."""
    source = _Source(1_000, size=100)
    records = ReadAhead(source.read(), bytes_max=1_000)
    assert _wait_until_still(source) <= 12
    assert next(records).offset == 0
    assert _wait_until_still(source) <= 24
    assert [record.offset for record in records] == [*range(1, 1_000)]
    assert len([*ReadAhead(_Source(3, size=5_000).read(), bytes_max=1_000)]) == 3


def test_an_error_comes_in_its_place() -> None:
    """Behind all that was read before it."""
    source = _Source(5, error=ValueError("lost"))
    records, seen = ReadAhead(source.read()), []
    with pytest.raises(ValueError, match="lost"):
        seen.extend(record.offset for record in records)
    assert [*seen] == [] or seen == [*range(5)]
    records = ReadAhead(_Source(5, error=ValueError("lost")).read())
    assert [next(records).offset for _ in range(5)] == [*range(5)]
    with pytest.raises(ValueError, match="lost"):
        next(records)


@pytest.mark.parametrize("is_closed", [True, False])
def test_whoever_leaves_leaves_no_reader_behind(is_closed: bool) -> None:
    """Closed or forgotten in the midst: the source is closed, and gives no more."""
    source = _Source(1_000, size=100)
    records = ReadAhead(source.read(), bytes_max=1_000)
    next(records)
    if is_closed:
        records.close()
    else:
        del records
    assert source.closed.wait(PATIENCE_S)
    assert source.given < 100
