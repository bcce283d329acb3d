"""Records that a thread fetches while others are worked on: whoever reads a whole journal need not wait for the next.

Called by `streams.journals` for audits, whose time was spent waiting for two thirds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from functools import partial

from streams.log import Record

# What lies ready is bounded in bytes, and at least one record: a journal's have up to half a megabyte.
BYTES_MAX = 4 * 2**20


class _Shared:
    """What the thread and the iterator share; the thread must not keep the iterator alive."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.records: deque[Record] = deque()
        self.size_bytes = 0
        self.is_done = self.is_left = False
        self.error: BaseException | None = None


class ReadAhead:
    """The records of another iterator, which is driven by a thread from now on; its exception comes in its place.

    Closed, or left behind, it ends the thread, and with it the iterator.
    """

    def __init__(self, records: Iterator[Record], *, bytes_max: int = BYTES_MAX) -> None:
        self._shared, self._taken = _Shared(), deque[Record]()
        # A thread that ends with the process: the log may be waited for when somebody gives up.
        fetch = partial(_fetch, records, self._shared, bytes_max=bytes_max)
        threading.Thread(target=fetch, name="read-ahead", daemon=True).start()

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        if not self._taken:
            self._take()
        return self._taken.popleft()

    def _take(self) -> None:
        shared = self._shared
        with shared.changed:
            shared.changed.wait_for(lambda: shared.records or shared.is_done)
            # What stood before the error comes before it.
            if not shared.records:
                raise StopIteration if shared.error is None else shared.error
            # All at once: two threads that hand over record by record do little else.
            self._taken, shared.records, shared.size_bytes = shared.records, deque(), 0
            shared.changed.notify_all()

    def close(self) -> None:
        """Read nothing more."""
        with self._shared.changed:
            self._shared.is_left = True
            self._shared.changed.notify_all()

    def __del__(self) -> None:
        self.close()


def _fetch(records: Iterator[Record], shared: _Shared, *, bytes_max: int) -> None:
    error: BaseException | None = None
    try:
        for record in records:
            with shared.changed:
                shared.changed.wait_for(lambda: shared.size_bytes < bytes_max or shared.is_left)
                if shared.is_left:
                    break
                shared.records.append(record)
                shared.size_bytes += len(record.value or b"")
                shared.changed.notify_all()
    # Whatever it is, it belongs to whoever reads.
    except BaseException as caught:  # noqa: BLE001
        error = caught
    finally:
        # In this thread, which has used it: a Kafka client knows one thread at a time.
        close = getattr(records, "close", None)
        if close is not None:
            close()
        with shared.changed:
            shared.error, shared.is_done = error, True
            shared.changed.notify_all()
