"""Models that strangers ask for: how many of them are fetched at the same time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from unittest.mock import patch

from ops.gateway.downloads import FETCHES_MAX, ModelCache
from schemas.identifiers import BodyRef
from streams.memory import MemoryLog


def test_whoever_asks_for_every_model_holds_up_nobody(tmp_path: Path) -> None:
    """Guarantee: a few models at a time are in memory, and the threads that append are left alone."""
    refs = [
        BodyRef(topic="models", partition=0, offsets=(0,), sha256=bytes([number]) * 32, size=1, codec="float32")
        for number in range(20)
    ]
    at_once, most, lock = 0, 0, threading.Lock()
    full, go = threading.Event(), threading.Event()

    def read(_: object, ref: BodyRef) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == FETCHES_MAX:
                full.set()
        go.wait(10)
        with lock:
            at_once -= 1
        return ref.sha256

    async def ask() -> list[Path]:
        cache = ModelCache(MemoryLog([], partitions=1), tmp_path)
        asked = asyncio.gather(*map(cache.open, refs))
        # This too needs a thread, as an append does.
        await asyncio.to_thread(full.wait, 60)
        go.set()
        return await asked

    with patch.object(ModelCache, "_read", read):
        paths = asyncio.run(ask())
    assert most == FETCHES_MAX
    assert [path.read_bytes() for path in paths] == [ref.sha256 for ref in refs]
