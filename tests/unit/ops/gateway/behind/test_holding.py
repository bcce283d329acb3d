"""The bytes of uploads: the same in memory and on disk, and memory comes back."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.gateway.behind import holding
from ops.gateway.behind.holding import MEMORY_BYTES_MAX, SHORT_BYTES_MAX, Holding, Memory
from schemas.identifiers import CHUNK_BYTES

CHUNK = 7


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=5 * CHUNK),
    cuts=st.lists(st.integers(0, 5 * CHUNK), max_size=6),
    stored_at=st.integers(0, 7),
    restarts=st.booleans(),
)
def test_bytes_are_the_same_wherever_they_are(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int], stored_at: int, restarts: bool
) -> None:
    """Guarantee: an upload is what was sent, in chunks and with its digest, in memory or on disk, or begun anew."""
    ends = sorted({*(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    folder, memory = tmp_path_factory.mktemp("held"), Memory(1_000)
    held = Holding(folder / "one.part", memory, len(data))
    with patch.object(holding, "CHUNK_BYTES", CHUNK):
        if asyncio.run(held.fits_memory()) and restarts:
            held.write(b"of another time")
            held.restart()
        for number, piece in enumerate(pieces):
            if number == stored_at:
                held.store()
            with held.open():
                held.write(piece)
        wanted = [data[first : first + CHUNK] for first in range(0, len(data), CHUNK)]
        assert [chunk for first in range(0, len(wanted), 2) for chunk in held.read(first, 2)] == wanted
    assert held.offset == len(data)
    assert held.digest() == hashlib.sha256(data).digest()
    held.end()
    assert memory.free_bytes == 1_000
    assert not held.path.exists()


def test_what_is_on_disk_is_known_to_the_next_process(tmp_path: Path) -> None:
    """Guarantee: stored bytes have their digest for whoever finds the file."""
    held = Holding(tmp_path / "one.part", Memory(), 10)
    assert asyncio.run(held.fits_memory())
    held.write(b"12345")
    held.store()
    found = Holding(held.path, Memory(), 10, 5, is_on_disk=True)
    with found.open():
        found.write(b"67890")
    assert found.digest() == hashlib.sha256(b"1234567890").digest()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_memory_is_bounded_and_comes_back(seed: int) -> None:
    """Guarantee: all bodies together take no more memory than there is, whoever waits, stays or gives up."""
    chance = random.Random(seed)
    memory, taken, most = Memory(), 0, 0

    async def visit() -> None:
        nonlocal taken, most
        size = chance.randint(1, SHORT_BYTES_MAX + CHUNK_BYTES)
        if not await memory.take(size):
            return
        assert size <= SHORT_BYTES_MAX
        taken, most = taken + size, max(most, taken + size)
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        taken -= size
        memory.give(size)

    async def run() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(visit() for _ in range(200)))

    asyncio.run(run())
    assert most <= MEMORY_BYTES_MAX, f"seed {seed}"
    assert memory.free_bytes == MEMORY_BYTES_MAX, f"seed {seed}"


def test_who_finds_no_memory_does_not_wait_for_slow_ones() -> None:
    """Guarantee: bodies that keep memory hold nobody up: others go to the disk, many at once without a wait."""

    async def run() -> list[bool]:
        memory = Memory(0)
        async with asyncio.timeout(60):
            return await asyncio.gather(*(memory.take(1) for _ in range(3)))

    assert asyncio.run(run()) == [False] * 3
    with patch.object(holding, "WAITING_MAX", 0), patch.object(holding, "WAIT_S", 3_600.0):
        assert asyncio.run(run()) == [False] * 3


def test_who_waits_gets_memory_in_turn_while_it_comes_back() -> None:
    """Guarantee: quick bodies stay off the disk however many come at once, in the order in which they came."""
    order = list[int]()

    async def visit(memory: Memory, number: int) -> bool:
        found = await memory.take(10)
        order.append(number)
        await asyncio.sleep(0.01)
        memory.give(10)
        return found

    async def run() -> list[bool]:
        memory = Memory(20)
        # Longer in all than one may wait for the next piece.
        with patch.object(holding, "WAIT_S", 0.05):
            return await asyncio.gather(*(visit(memory, number) for number in range(30)))

    assert all(asyncio.run(run()))
    assert order == [*range(30)]


def test_who_leaves_the_line_takes_nothing_along() -> None:
    """Guarantee: a device that hangs up while it waits, or as its turn comes, leaves all memory to the others."""

    async def run() -> tuple[int, bool]:
        memory = Memory(10)
        assert await memory.take(10)
        large, small = asyncio.create_task(memory.take(10)), asyncio.create_task(memory.take(4))
        await asyncio.sleep(0)
        memory.give(5)
        large.cancel()
        is_let_in = await small
        memory.give(4)
        memory.give(5)
        first = await memory.take(10)
        late = asyncio.create_task(memory.take(10))
        await asyncio.sleep(0)
        memory.give(10)
        late.cancel()
        await asyncio.gather(large, late, return_exceptions=True)
        return memory.free_bytes, is_let_in and first

    assert asyncio.run(run()) == (10, True)
