"""Bodies on the twin: what was stored comes back, within the budget, and nothing but a fact is called absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import BodyRef
from streams.bodies import MISSES_BEFORE_MOVING, Absent, BodyReader, store
from streams.log import Bounds, Draft, LogUnavailable, Record, TopicPartition
from streams.memory import MemoryLog, MemoryReader

CHUNK = 8
AT = TopicPartition("bodies", 0)


@dataclass(frozen=True)
class Spec:
    """The topic of these tests."""

    name: str = "bodies"
    config: dict[str, str] = field(default_factory=dict)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few bytes, so that every case fits into a test, and no waiting."""
    monkeypatch.setattr("schemas.identifiers.CHUNK_BYTES", CHUNK)
    for module in ("reader", "uploads"):
        monkeypatch.setattr(f"streams.bodies.{module}.CHUNK_BYTES", CHUNK)
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def seeks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first offset of each body that was sought instead of read ahead."""
    found: list[int] = []
    sought = BodyReader._seek

    def counted(reader: BodyReader, offsets: Sequence[int]) -> dict[int, bytes]:
        found.append(offsets[0])
        return sought(reader, offsets)

    monkeypatch.setattr(BodyReader, "_seek", counted)
    return found


class SilentLog(MemoryLog):
    """The log in memory, on demand without a broker for a number of requests."""

    def __init__(self) -> None:
        super().__init__([Spec()])
        self.silent = 0

    def _is_silent(self) -> bool:
        self.silent = max(0, self.silent - 1)
        return self.silent > 0

    def bounds(self, at: TopicPartition) -> Bounds:
        if self._is_silent():
            raise LogUnavailable("nobody answers")
        return super().bounds(at)

    def reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        log = self

        class SilentReader(MemoryReader):
            def poll(self, timeout_s: float) -> list[Record]:
                return [] if log._is_silent() else super().poll(timeout_s)

        return SilentReader(self, positions)


def put(log: MemoryLog, data: bytes, name: str = "u") -> BodyRef:
    return store(log, TopicPartition("bodies", 0), data=data, upload_id=name, codec="raw")


def body(number: int, size: int = 20) -> bytes:
    return bytes([number]) * size


def changed(ref: BodyRef, **fields: Any) -> BodyRef:
    return msgspec.structs.replace(ref, **fields)


def reason(found: bytes | Absent) -> str:
    assert isinstance(found, Absent)
    return found.reason


@given(
    sizes=st.lists(st.integers(1, 5 * CHUNK), min_size=1, max_size=12),
    data=st.data(),
    budget=st.sampled_from([1, CHUNK, 3 * CHUNK, 10 * CHUNK, 1000]),
)
def test_any_order_any_budget(sizes: list[int], data: st.DataObject, budget: int) -> None:
    """Bodies with interleaved chunks come back in any order, twice too, and the budget is never exceeded."""
    log = MemoryLog([Spec()])
    wanted = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    pending = {number: [*range(0, len(text), CHUNK)] for number, text in enumerate(wanted)}
    offsets: dict[int, list[int]] = {number: [] for number in pending}
    for number in data.draw(st.permutations([n for n, starts in pending.items() for _ in starts])):
        start = pending[number].pop(0)
        draft = Draft(topic="bodies", partition=0, value=wanted[number][start : start + CHUNK])
        offsets[number] += log.append([draft])
    whole = [put(MemoryLog([Spec()]), text) for text in wanted]
    refs = [changed(ref, offsets=tuple(offsets[number])) for number, ref in enumerate(whole)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=budget)
    for number in data.draw(st.lists(st.integers(0, len(refs) - 1), max_size=30)):
        assert reader.fetch(refs[number]) == wanted[number]
        assert sum(map(len, reader._buffer.chunks.values())) == reader._buffer.size_bytes <= budget


def test_about_in_order_needs_no_seek(seeks: list[int]) -> None:
    """Bodies that are asked for in about the order of the log are all found by reading on."""
    log = MemoryLog([Spec()])
    refs = [put(log, body(number)) for number in range(60)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=30 * CHUNK)
    for start in range(0, 60, 5):
        for number in (start + 2, start, start + 4, start + 1, start + 3):
            assert reader.fetch(refs[number]) == body(number)
    # Reading began at the first ref asked for: the two bodies before it are the only misses.
    assert seeks == [refs[0].offsets[0], refs[1].offsets[0]]


def test_a_miss_does_not_disturb_the_order(seeks: list[int]) -> None:
    """An old body between two that are next in line is sought, and reading ahead goes on where it was."""
    log = MemoryLog([Spec()])
    refs = [put(log, body(number)) for number in range(30)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=200)
    for number in range(1, 30):
        assert reader.fetch(refs[number]) == body(number)
        if number % 2:
            assert reader.fetch(refs[0]) == body(0)
    assert seeks == [0] * 15


def test_one_device_cannot_move_the_reader(seeks: list[int]) -> None:
    """Refs far ahead and forged refs between honest ones cost one seek each, not the order."""
    log = MemoryLog([Spec()])
    refs = [put(log, body(number)) for number in range(100)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=10 * CHUNK)
    for number in range(50):
        assert reader.fetch(refs[number]) == body(number)
        assert reason(reader.fetch(changed(refs[99], sha256=bytes(32)))) == "other bytes"
    assert seeks == [refs[99].offsets[0]] * 50


def test_the_reader_moves_with_the_order(seeks: list[int]) -> None:
    """When the order of the updates has really moved on, the reader follows after a few misses."""
    log = MemoryLog([Spec()])
    refs = [put(log, body(number)) for number in range(100)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=10 * CHUNK)
    for number in (0, *range(60, 100)):
        assert reader.fetch(refs[number]) == body(number)
    assert len(seeks) == MISSES_BEFORE_MOVING - 1


def test_what_is_absent() -> None:
    """Each way in which a ref can name something else than a body there has its reason."""
    log = MemoryLog([Spec()])
    writer = log.writer("w")
    first = put(log, body(1))
    ref = put(log, body(2))
    marker = writer.commit([Draft(topic="bodies", partition=0, value=b"x")])[0] + 1
    put(log, body(3))
    log.delete_records(AT, 1)
    reader = BodyReader(log, "bodies", 0)
    assert reason(reader.fetch(first)) == "below the beginning"
    assert reason(reader.fetch(changed(ref, offsets=(3, 4, 400)))) == "past the end"
    assert reason(reader.fetch(changed(ref, offsets=(3, 4, marker)))) == "no record at an offset"
    assert reason(reader.fetch(changed(ref, sha256=bytes(32)))) == "other bytes"
    assert reason(reader.fetch(changed(ref, offsets=(2, 3, 4)))) == "another size"
    assert reason(reader.fetch(changed(ref, partition=1))) == "another partition"
    assert reader.fetch(ref) == body(2)


@pytest.mark.parametrize("budget_bytes", [1, 1000], ids=["sought", "read ahead"])
def test_what_an_open_transaction_hides_is_awaited(budget_bytes: int) -> None:
    """A stranger's open transaction makes no body absent that is stored behind it: the reader waits for its end."""
    log = MemoryLog([Spec()])
    stranger = log.writer("stranger")
    stranger.begin()
    stranger.put([Draft(topic="bodies", partition=0, value=b"x")])
    ref = put(log, body(1))

    class WaitingReader(MemoryReader):
        def poll(self, timeout_s: float) -> list[Record]:
            # As a broker aborts it at its timeout; a second abort changes nothing.
            log._finish("stranger", committed=False)
            return super().poll(timeout_s)

    log.reader = log.bulk_reader = lambda positions: WaitingReader(log, positions)  # type: ignore[method-assign]
    reader = BodyReader(log, "bodies", 0, budget_bytes=budget_bytes)
    assert reason(reader.fetch(changed(ref, offsets=(1, 2, 400)))) == "past the end"
    assert reader.fetch(ref) == body(1)
    assert reason(reader.fetch(changed(ref, offsets=(0, 1, 2)))) == "no record at an offset"


def test_malformed_refs_cost_nothing() -> None:
    """A ref with a wrong number of offsets, without order, of no size or above the limit is refused unread."""
    log = SilentLog()
    ref = put(log, body(1))
    reader = BodyReader(log, "bodies", 0)
    for fields in ({"offsets": (0, 1)}, {"offsets": (0, 2, 1)}, {"offsets": (0, 1, 1)}, {"size": 0, "offsets": ()}):
        assert reason(reader.fetch(changed(ref, **fields))) == "malformed ref"
    assert reason(reader.fetch(ref, size_max=19)) == "malformed ref"
    assert reader._ahead is None
    assert reader.fetch(ref, size_max=20) == body(1)


@given(silences=st.lists(st.integers(0, 7), min_size=6, max_size=6))
def test_silence_is_not_absence(silences: list[int]) -> None:
    """However long nobody answers, and whenever, a body that is there is found and one that is not is absent."""
    log = SilentLog()
    refs = [put(log, body(number)) for number in range(5)]
    reader = BodyReader(log, "bodies", 0, budget_bytes=5 * CHUNK)
    for number, silence in zip((4, 0, 3, 1, 2), silences, strict=False):
        log.silent = silence
        assert reader.fetch(refs[number]) == body(number)
    log.silent = silences[-1]
    assert reason(reader.fetch(changed(refs[0], offsets=(0, 1, 99)))) == "past the end"


@pytest.mark.parametrize(("timeout_s", "silence_s"), [(0.05, 60.0), (3600.0, 0.05)])
@pytest.mark.parametrize("bounds", [SilentLog.bounds, MemoryLog.bounds])
def test_a_limit_in_time_ends_a_fetch(
    monkeypatch: pytest.MonkeyPatch, bounds: Any, timeout_s: float, silence_s: float
) -> None:
    """A caller with a limit hears that no broker answers, then or once nothing comes for a while; later it works."""
    monkeypatch.setattr("streams.bodies.reader.SILENCE_S", silence_s)
    log = SilentLog()
    ref, reader = put(log, body(1)), BodyReader(log, "bodies", 0)
    monkeypatch.setattr(SilentLog, "bounds", bounds)
    log.silent = 1 << 60
    with pytest.raises(LogUnavailable):
        reader.fetch(ref, timeout_s=timeout_s)
    log.silent = 0
    assert reader.fetch(ref, timeout_s=3600.0) == body(1)


def test_deletion_under_a_reader() -> None:
    """When records are deleted where the reader stands, what is left is found and the rest is absent."""
    log = MemoryLog([Spec()])
    refs = [put(log, body(number)) for number in range(250)]
    reader = BodyReader(log, "bodies", 0)
    assert reader.fetch(refs[0]) == body(0)
    log.delete_records(AT, refs[248].offsets[0])
    assert reason(reader.fetch(refs[200])) == "below the beginning"
    assert [reader.fetch(ref) for ref in refs[248:]] == [body(248), body(249)]
    assert reason(reader.fetch(refs[247])) == "below the beginning"
