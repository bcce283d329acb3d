"""Connections: how many there may be, how slow they may be, and how bytes that are no request are refused.

All of it before there is a request, so that whoever only wants to hold the gateway up costs it a timer and a file.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from ops.gateway.refusals import HeadTooLarge, Refusal, Unreadable, tell_refusal
from ops.web.serving import PatientHttp

# Files that the process needs for itself: the log, uploads, models.
OWN_FILES = 256
# Without a proxy before it, no address holds more than a quarter of all connections.
SHARES = 4
# Whoever reads its answer takes some of it in so long.
READ_WAIT_S = 60.0


@dataclass(slots=True)
class Seats:
    """Connections that may be open at the same time: `all_max`, and of one address `each_max`."""

    all_max: int
    each_max: int
    _taken: Counter[str] = field(default_factory=Counter)
    _count: int = 0

    def take(self, address: str) -> bool:
        """Whether there is one more for this address."""
        if self._count >= self.all_max or self._taken[address] >= self.each_max:
            return False
        self._count += 1
        self._taken[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One less."""
        self._count -= 1
        self._taken[address] -= 1
        # Whoever holds none takes no memory.
        if not self._taken[address]:
            del self._taken[address]


def count_seats(*, behind_proxy: bool) -> Seats:
    """As many as the system allows this process, which is asked for all that it gives."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    seats = max(1, most - OWN_FILES)
    # A proxy is one address, and limits those behind it itself.
    return Seats(seats, seats if behind_proxy else max(1, seats // SHARES))


class StrictHttp(PatientHttp):
    """HTTP for strangers: a head comes soon, an answer is taken soon, and what is no request is told so."""

    connections_max = None
    seats = Seats(sys.maxsize, sys.maxsize)
    read_wait_s = READ_WAIT_S
    # Whoever counts what is refused before it is a request.
    note_refusal: Callable[[str], object] = staticmethod(lambda code: None)
    _seat: str | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a seat, or leave."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if self.seats.take(address):
            self._seat = address
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave it."""
        if self._seat is not None:
            self.seats.leave(self._seat)
            self._seat = None
        self._stop_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other side is slower than we are: it has some time."""
        # Otherwise a model that is read a byte a minute would hold its file for ever.
        self._stop_reading()
        self._unread = self.loop.call_later(self.read_wait_s, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self._stop_reading()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """A problem like any other for what is no request; nothing more is read."""
        # In the midst of an answer there is no place for another one.
        if not (self._is_answering() and self.cycle.response_started):
            refusal = _name_refusal(sys.exception())
            self.note_refusal(refusal.code)
            self.transport.write(_write_refusal(refusal))
        self.transport.close()

    def _stop_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = None


def _name_refusal(error: BaseException | None) -> Refusal:
    # The parser's own words are about its buffer, and are nothing for a stranger.
    if getattr(error, "error_status_hint", 400) == 431:
        return HeadTooLarge("The head does not end.")
    return Unreadable("This is no request of HTTP/1.1.")


def _write_refusal(refusal: Refusal) -> bytes:
    told = tell_refusal(refusal, closes=True)
    line = f"HTTP/1.1 {told.status_code} {HTTPStatus(told.status_code).phrase}".encode()
    return b"\r\n".join([line, *(b": ".join(pair) for pair in told.raw_headers), b"", bytes(told.body)])
