"""Waiting for a position: a reader that stalls is given up, and a log that cannot be read on is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.topics import CATALOGUE, UPDATES
from streams import log as log_module
from streams.bodies.reader import BodyReader
from streams.bodies.uploads import store
from streams.holes import Holes
from streams.log import (
    STANDSTILL_S,
    Bounds,
    Draft,
    LogUnavailable,
    ReadersHeldBack,
    ReaderStalled,
    Record,
    TopicPartition,
    scan,
)
from streams.memory import MemoryLog, MemoryReader, MemoryWriter
from streams.retry import retry_until_available

AT = TopicPartition(UPDATES.name, 3)
DRAFT = Draft(topic=AT.topic, partition=AT.partition, value=b"x")
POLL_S = 0.2
ENDS_WITHIN_S = 2_000.0


class StallingLog(MemoryLog):
    """Its first readers stall after some polls; its broker is away until a time. Polls take time, of its own clock.

    Readers need `reconnects_s` more than the broker.
    """

    def __init__(
        self, *, stalls: int = 0, after_polls: int = 0, away_until_s: float = 0.0, reconnects_s: float = 0.0
    ) -> None:
        super().__init__(CATALOGUE)
        self.now_s, self.stalls, self.after_polls, self.away_until_s = 0.0, stalls, after_polls, away_until_s
        self.reads_from_s = away_until_s + reconnects_s
        self.readers: list[StallingReader] = []

    def monotonic(self) -> float:
        """In the place of the real clock."""
        assert self.now_s < ENDS_WITHIN_S, "a wait without an end"
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """At once."""
        self.now_s += seconds

    def bounds(self, at: TopicPartition) -> Bounds:
        """As far as the broker answers."""
        if self.now_s < self.away_until_s:
            raise LogUnavailable("away")
        return super().bounds(at)

    def reader(self, positions: Mapping[TopicPartition, int]) -> StallingReader:  # type: ignore[override]
        """One more."""
        stalls_after = self.after_polls if len(self.readers) < self.stalls else None
        self.readers.append(StallingReader(self, positions, stalls_after=stalls_after))
        return self.readers[-1]

    bulk_reader = reader  # type: ignore[assignment]


class StallingReader(MemoryReader):
    """Hands out one record a poll, and nothing more once it has stalled, nor while the broker is away."""

    def __init__(
        self, log: StallingLog, positions: Mapping[TopicPartition, int], *, stalls_after: int | None = None
    ) -> None:
        super().__init__(log, positions)
        self._stalling, self._left, self.is_closed = log, stalls_after, False

    def poll(self, timeout_s: float) -> list[Record]:
        """One record, or time passes."""
        if self._left == 0 or self._stalling.now_s < self._stalling.reads_from_s:
            self._stalling.now_s += POLL_S
            return []
        if self._left is not None:
            self._left -= 1
        found = super().poll(timeout_s)
        if not found:
            self._stalling.now_s += POLL_S
        for record in found[1:2]:
            self.seek(record.at, record.offset)
        return found[:1]

    def close(self) -> None:
        """Once and for all."""
        self.is_closed = True
        super().close()


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[StallingLog], StallingLog]:
    """Has everything that waits read the clock of a log."""

    def use(log: StallingLog) -> StallingLog:
        monkeypatch.setattr(log_module, "time", log)
        monkeypatch.setattr("streams.retry.time", log)
        return log

    return use


@given(records=st.integers(1, 6), stalls=st.integers(0, 4), after_polls=st.integers(0, 6), away_s=st.floats(0, 300))
def test_stalled_readers_lose_nothing(records: int, stalls: int, after_polls: int, away_s: float) -> None:
    """However many readers stall wherever, and for how long no broker answers, each record is read in its order."""
    log = StallingLog(stalls=stalls, after_polls=after_polls)
    log.append([DRAFT] * records)
    log.away_until_s = away_s
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "time", log)
        patch.setattr("streams.retry.time", log)
        found = retry_until_available(lambda: list(scan(log, AT, start=0, end=records)))
    assert [record.offset for record in found] == list(range(records))
    assert all(reader.is_closed for reader in log.readers)
    # A reader is given up for standing still before what can be read, and for nothing else.
    gave_up = stalls if after_polls < records else 0
    assert len(log.readers) == gave_up + 1


def test_a_stalled_reader_is_given_up(clocked: Callable[[StallingLog], StallingLog]) -> None:
    """What can be read and does not come is the reader's fault: whoever waits begins again, with another."""
    log = clocked(StallingLog(stalls=1, after_polls=1))
    log.append([DRAFT] * 3)
    with pytest.raises(ReaderStalled, match=r"updates\[3\] stalled at 1, and 3 can be read"):
        list(scan(log, AT))
    assert STANDSTILL_S <= log.now_s < 2 * STANDSTILL_S
    assert len(list(scan(log, AT))) == 3


def test_a_transaction_that_stays_open_is_told(clocked: Callable[[StallingLog], StallingLog]) -> None:
    """Readers wait for it, as they must, and say each half minute where it holds them back."""
    log = clocked(StallingLog())
    log.append([DRAFT])
    writer: MemoryWriter = log.writer("somebody")
    writer.begin()
    writer.put([DRAFT])
    ends_s = 3.5 * STANDSTILL_S
    reading = scan(log, AT, start=0, end=2)
    assert next(reading).offset == 0
    bounds = log.bounds

    def end_at_last(at: TopicPartition) -> Bounds:
        if log.now_s > ends_s and log._transactions:
            writer.finish()
        return bounds(at)

    log.bounds = end_at_last  # type: ignore[method-assign]
    with capture_logs() as lines:
        assert [record.offset for record in reading] == [1]
    assert [line["event"] for line in lines] == ["readers_held_back"] * 3
    assert {key: lines[0][key] for key in ("topic", "partition", "offset", "written", "awaited")} == {
        "topic": "updates",
        "partition": 3,
        "offset": 1,
        "written": 2,
        "awaited": 2,
    }


def test_whoever_gives_up_waits_no_longer_than_a_transaction_lasts(
    clocked: Callable[[StallingLog], StallingLog],
) -> None:
    """A transaction that nothing ends is told to whoever can end it; what came before it is read."""
    log = clocked(StallingLog())
    log.append([DRAFT])
    writer: MemoryWriter = log.writer("somebody")
    writer.begin()
    writer.put([DRAFT])
    reading = scan(log, AT, start=0, end=2, gives_up=True)
    assert next(reading).offset == 0
    bounds = log.bounds

    def end_at_last(at: TopicPartition) -> Bounds:
        if log.now_s > 3 * STANDSTILL_S and log._transactions:
            writer.finish()
        return bounds(at)

    log.bounds = end_at_last  # type: ignore[method-assign]
    with pytest.raises(ReadersHeldBack, match=r"updates\[3\] cannot be read past 1, and 2 is awaited"):
        next(reading)
    assert STANDSTILL_S <= log.now_s < 2 * STANDSTILL_S
    assert log.readers[-1].is_closed


def test_an_outage_is_no_standstill(clocked: Callable[[StallingLog], StallingLog]) -> None:
    """A reader has its time from when the broker answers again: it is not given up for the broker's silence."""
    log = clocked(StallingLog(away_until_s=10 * STANDSTILL_S, reconnects_s=STANDSTILL_S / 2))
    log.append([DRAFT])
    with capture_logs() as lines:
        assert len(list(scan(log, AT, start=0, end=1))) == 1
    assert lines == []
    assert len(log.readers) == 1


def test_who_asks_for_holes_gets_another_reader(clocked: Callable[[StallingLog], StallingLog]) -> None:
    """The reader that is kept for a partition is dropped when it stalls."""
    log = clocked(StallingLog(stalls=1))
    log.append([DRAFT] * 2)
    holes = Holes(log)
    assert retry_until_available(lambda: holes.find_first(AT, 0, end=2)) == 0
    assert [reader.is_closed for reader in log.readers] == [True, False]


@pytest.mark.parametrize("budget_bytes", [1, 1 << 20], ids=["sought", "read ahead"])
def test_a_body_is_fetched_with_another_reader(
    clocked: Callable[[StallingLog], StallingLog], budget_bytes: int
) -> None:
    """A body that can be read arrives, whichever of its two readers has stalled."""
    log = clocked(StallingLog(stalls=1))
    ref = store(log, TopicPartition("bodies", 0), data=b"body", upload_id="u", codec="raw")
    reader = BodyReader(log, "bodies", 0, budget_bytes=budget_bytes)
    assert reader.fetch(ref) == b"body"
    reader.close()
    assert [reader.is_closed for reader in log.readers] == [True, True]
