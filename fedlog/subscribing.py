"""`subscribe`: new versions, promotions and rollbacks as an async iterator, at least once, with signatures checked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack

from ops.opening import require_operator
from ops.operator.tasks import check_name
from ops.services.subscriber import PROMOTIONS, Published, Subscriber, Wanted
from ops.settings import resolve

__all__ = ["Published", "SubscribeOptions", "subscribe"]

POLL_S = 0.5
T = TypeVar("T")


class SubscribeOptions(TypedDict, total=False):
    """What a subscriber may be told by name.

    `promoted`: promotions and rollbacks alone. `begin`: where to begin without a position. `state`: the file that keeps
    the position, so that a restart misses nothing. `folder`, `bootstrap_servers`: as for `connect`.
    """

    promoted: bool
    begin: Literal["beginning", "now"]
    state: str | Path
    folder: str | Path
    bootstrap_servers: str


async def subscribe(task: str = "", **options: Unpack[SubscribeOptions]) -> AsyncIterator[Published]:
    """Each announcement of a task, or of all, whose signatures hold; without an end.

    One is done when the next one is asked for: what an exception, a `break` or a death interrupts is given again by
    whoever goes on with the same `state`. Raises FedlogError.
    """
    async with contextlib.AsyncExitStack() as stack:
        subscriber = await _wait_for(lambda: _open(task, options, stack=stack))
        while True:
            if (found := await _wait_for(lambda: subscriber.next(POLL_S))) is not None:
                yield found
                # Whoever asks for the next one is done with this one; nobody comes back here after a `break`.
                await _wait_for(subscriber.confirm)


def _open(task: str, options: SubscribeOptions, *, stack: contextlib.AsyncExitStack) -> Subscriber:
    if task:
        check_name(task)
    folder = options.get("folder")
    settings = resolve(
        {
            "folder": Path(folder) if folder else None,
            "bootstrap_servers": options.get("bootstrap_servers") or None,
        }
    )
    # Whom to believe is asked first: without an answer nothing need be opened.
    operator = require_operator(settings)
    wanted = Wanted(task=task, begin=options.get("begin", "now"))
    if options.get("promoted"):
        wanted = Wanted(task=task, begin=wanted.begin, kinds=PROMOTIONS)
    # Entered first, so that the log is closed behind whoever reads it.
    log = stack.enter_context(contextlib.closing(settings.log("fedlog-subscriber")))
    state = options.get("state")
    subscriber = Subscriber(log, operator, wanted=wanted, state=Path(state) if state else None)
    return stack.enter_context(contextlib.closing(subscriber))


async def _wait_for(call: Callable[[], T]) -> T:
    """The same in a thread. A thread cannot be cancelled, so whoever is cancelled waits for its end."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
