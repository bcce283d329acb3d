"""A bare client of HTTP/1.1 on connections that are kept, for loads: no library whose cost would be measured with it.

It needs nothing but Python, because Flower's own environment runs it too.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
TICKS_S = os.sysconf("SC_CLK_TCK")
SOURCES = 100


class Connection:
    """One connection, opened at the first request and again after the other side has closed it."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self._port, self._source = port, source
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._source, 0), limit=1 << 20
        )

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers in small letters, and the body of the answer."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """The same of a request as it goes over the wire."""
        # A server closes what has been idle for a while.
        if self._writer is None or self._writer.is_closing() or (self._reader is not None and self._reader.at_eof()):
            await self.open()
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(request)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.split("\r\n")
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
        body = await self._reader.readexactly(int(told.get("content-length", "0")))
        if told.get("connection") == "close":
            await self.close()
        return int(status.split(" ")[1]), told, body

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._writer = None


async def work_through(
    jobs: Iterable[T], port: int, work: Callable[[Connection, T], Awaitable[object]], *, connections: int
) -> tuple[float, list[float]]:
    """Do all jobs over so many connections; seconds in all, and of each."""
    waiting, took = iter(jobs), list[float]()

    async def go_on() -> None:
        connection = Connection(port)
        for job in waiting:
            began = perf_counter()
            await work(connection, job)
            took.append(perf_counter() - began)
        await connection.close()

    began = perf_counter()
    await asyncio.gather(*(go_on() for _ in range(connections)))
    return perf_counter() - began, took


async def measure_idle(port: int, pid: int, counts: Iterable[int], path: str) -> dict[str, float]:
    """Megabytes that a server holds with so many idle connections, each of which has asked once."""
    held, found = list[Connection](), {}
    try:
        for count in counts:
            while len(held) < count:
                # A server may hold no more than a share of its connections for one address.
                held.append(Connection(port, source=f"127.0.1.{len(held) % SOURCES + 1}"))
                await held[-1].ask("GET", path)
            await asyncio.sleep(0.5)
            found[str(count)] = read_rss_mb(pid)
    finally:
        await asyncio.gather(*(connection.close() for connection in held))
    return found


def tell_latency(took: list[float]) -> dict[str, float]:
    """Milliseconds that half of them stayed below, and 99 of a hundred."""
    ordered = sorted(took)
    return {f"p{share}_ms": round(1000 * ordered[len(ordered) * share // 100], 1) for share in (50, 99)}


def read_cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS_S


def read_rss_mb(pid: int) -> float:
    """Megabytes of memory that it holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def allow_connections() -> None:
    """As many open files as this process, and those that it starts, may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
