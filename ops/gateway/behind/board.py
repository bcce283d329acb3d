"""Answers of selector and aggregator, kept for whoever asks next, and handed to whoever waits.

Each is kept as its role signed it: the gateway could not make one up, and a device checks it as if it read the log.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.events import Answer, Enrolled, EnrolmentRefused, Outcome

KEPT_BYTES_MAX = 64 * 2**20


class Board:
    """The newest answer to each check-in (by the digest of its record) and to each update (by its lease)."""

    def __init__(self, *, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._is_ending = False
        self._waiting: dict[str, list[asyncio.Future[bytes]]] = {}

    def post(self, values: Iterable[bytes]) -> None:
        """Answers as they stand in the log."""
        for value in values:
            if (key := name_answer(value)) is not None:
                self._keep(key, value)
                for waiting in self._waiting.pop(key, ()):
                    if not waiting.done():
                        waiting.set_result(value)

    def release(self) -> None:
        """Whoever waits goes away without news, and nobody waits here any more."""
        self._is_ending = True
        for key in list(self._waiting):
            for waiting in self._waiting.pop(key):
                waiting.cancel()

    def find(self, key: str) -> bytes | None:
        """The answer, where it is here."""
        return self._kept.get(key)

    async def wait(self, key: str, timeout_s: float) -> bytes | None:
        """The answer, as soon as it is here; None after `timeout_s`."""
        if (found := self._kept.get(key)) is not None or timeout_s <= 0 or self._is_ending:
            return found
        # Several may ask for the same answer: the device, and its next request after a cut.
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(waiting)
        try:
            done, _ = await asyncio.wait([waiting], timeout=timeout_s)
            if done and not waiting.cancelled():
                return waiting.result()
        finally:
            # A device that goes away in the midst leaves nothing behind.
            if (others := self._waiting.get(key)) is not None:
                others[:] = [each for each in others if each is not waiting]
                if not others:
                    del self._waiting[key]
        return None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def _keep(self, key: str, value: bytes) -> None:
        # By key, so that a repeated answer takes no more room than the first.
        self._size += len(value) - len(self._kept.pop(key, b""))
        self._kept[key] = value
        while self._size > self._bytes_max:
            self._size -= len(self._kept.popitem(last=False)[1])


def name_answer(value: bytes) -> str | None:
    """What the answer is to; None for what is none."""
    try:
        answer: Answer = decode(parse_certified(value).payload, Answer)  # type: ignore[arg-type]
    except MalformedError:
        return None
    match answer:
        case Outcome():
            return answer.update
        case Enrolled() | EnrolmentRefused():
            return answer.request_sha256.hex()
    return answer.checkin_sha256.hex()
