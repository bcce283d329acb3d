"""Opens all that a gateway needs, serves, and ends in order: what was taken in is still appended."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from starlette.applications import Starlette

from ops.gateway.access.limits import Limits
from ops.gateway.app import Gateway, make_app
from ops.gateway.behind.appending import Appending
from ops.gateway.behind.board import Board
from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.behind.following import Post, follow_answers, follow_catalogue
from ops.gateway.downloads import Downloads, ModelCache
from ops.gateway.enrolments import Enrolments
from ops.gateway.entry import Entry, read_clock_ms
from ops.gateway.exchange import Exchange
from ops.gateway.gates import Outside
from ops.gateway.proofs import Proofs
from ops.gateway.transfers import Transfers
from ops.gateway.uploads import Uploads
from streams.log import EventLog

FORGET_EVERY_S = 60.0
END_WAIT_S = 5.0


def open_gateway(
    log: EventLog, folder: Path, *, operator: bytes, base: str = "", limits: Limits | None = None
) -> tuple[Gateway, Uploads]:
    """A gateway over a log; `operator` is the public key, and `base` how devices name this very process."""
    limits = limits or Limits()
    partitions = log.partitions
    catalogue, appending = Catalogue(operator, partitions=partitions), Appending(log)
    entry, uploads = Entry(catalogue), Uploads(folder / "uploads", appending, partitions=partitions)
    board = Board()
    exchange = Exchange(entry, catalogue, appending, board, partitions, limits)
    enrolments = Enrolments(catalogue, appending, board, partitions, limits)
    transfers = Transfers(entry, Proofs(base), uploads, appending, limits, base)
    downloads = Downloads(catalogue, ModelCache(log, folder / "models"))
    return Gateway(catalogue, exchange, enrolments, transfers, downloads), uploads


def make_serving_app(
    log: EventLog, folder: Path, *, operator: bytes, base: str = "", outside: Outside | None = None
) -> Starlette:
    """The application with all that works behind it, from its start to its end."""
    outside = outside or Outside()
    gateway, uploads = open_gateway(log, folder, operator=operator, base=base, limits=outside.limits)
    app = make_app(gateway, outside)
    app.state.gateway, app.state.books = gateway, outside.books
    appending = gateway.exchange.appending
    outside.books.watch(
        waiting=lambda: gateway.exchange.board.waiting,
        unacknowledged_bytes=lambda: appending.waiting_bytes,
        uploads=lambda: len(uploads),
        log_answers=lambda: not appending.breaker.is_open,
        limits_shared=lambda: outside.limits.is_shared_as_asked,
    )
    app.router.lifespan_context = lambda _: _live(gateway, uploads, log=log)
    return app


@asynccontextmanager
async def _live(gateway: Gateway, uploads: Uploads, *, log: EventLog) -> AsyncIterator[None]:
    board, loop = gateway.exchange.board, asyncio.get_running_loop()

    def post(values: list[bytes]) -> None:
        loop.call_soon_threadsafe(board.post, values)

    working = [asyncio.create_task(gateway.exchange.appending.run()), asyncio.create_task(_forget(uploads))]
    with follow(gateway.catalogue, log, post=post):
        try:
            yield
        finally:
            # Only now: requests that were being served have ended, and what they brought is appended.
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)


@contextmanager
def follow(catalogue: Catalogue, log: EventLog, *, post: Post) -> Iterator[None]:
    """Follow the log in threads while this is entered."""
    # Threads, because reading Kafka blocks, and must not hold up whoever is served meanwhile.
    stop = threading.Event()
    threads = [
        threading.Thread(target=follow_catalogue, args=(log, catalogue), kwargs={"stop": stop}, daemon=True),
        threading.Thread(
            target=follow_answers, args=(log, catalogue.trust), kwargs={"post": post, "stop": stop}, daemon=True
        ),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(END_WAIT_S)


async def _forget(uploads: Uploads) -> None:
    while True:
        # A full disk is met where somebody uploads, and is told there.
        with contextlib.suppress(OSError):
            uploads.forget(read_clock_ms())
        await asyncio.sleep(FORGET_EVERY_S)
