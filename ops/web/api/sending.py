"""Large answers: few at once and few for each caller, and none for a client that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PART_BYTES = 1 << 20
PART_WAIT_S = 30.0


class HeldResponse(Response):
    """A response that is sent by parts, each of which is taken within a time; at its end it calls `leave`."""

    def __init__(self, response: Response, leave: Callable[[], None]) -> None:
        super().__init__(status_code=response.status_code)
        self.body, self.raw_headers, self._leave = response.body, response.raw_headers, leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that takes nothing for long is left."""
        del scope, receive
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for begin in range(0, max(1, len(self.body)), PART_BYTES):
                part, has_more = bytes(self.body[begin : begin + PART_BYTES]), begin + PART_BYTES < len(self.body)
                # A part at a time: all of it at once would lie in the memory of the connection instead.
                async with asyncio.timeout(PART_WAIT_S):
                    await send({"type": "http.response.body", "body": part, "more_body": has_more})
        finally:
            self._leave()
