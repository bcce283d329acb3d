"""Open pages without a browser: their streams, which come back where they were; called by `tests.bench.rows.page`.

watching HOST PORT TOKENS TASK PAGES READERS BEGIN

PAGES follow the page of a task, READERS every event of the API from a position on, with TOKENS in turn. It says
`ready`, and what it saw when its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

VERSION = re.compile(r'<span class="name">version</span><span class="value">([^<]*)<')
ID = re.compile(r"^id: (\S+)$", re.MULTILINE)
RETRY_S = 0.4


@dataclass
class Stream:
    """One client that stays: what it has heard, and how often it had to come back."""

    path: str
    last: str = ""
    comebacks: int = 0
    noted: list[tuple[int, int]] = field(default_factory=list)
    seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    refreshes: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, host: str, port: int, token: str) -> None:
        """Listen, and come back whenever the server is gone."""
        while True:
            # A stream that is cut ends in the midst of a chunk, or where the next size would stand.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._listen(host, port, token)
            self.comebacks += 1
            await asyncio.sleep(RETRY_S)

    async def _listen(self, host: str, port: int, token: str) -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        try:
            last = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
            head = f"GET {self.path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.split(b"\r\n")[0]:
                return
            while size := int(await reader.readline(), 16):
                self._hear((await reader.readexactly(size + 2)).decode())
        finally:
            writer.close()

    def _hear(self, message: str) -> None:
        # The server writes each message as one chunk.
        self.heard.set()
        self.refreshes += message.startswith("event: refresh")
        if found := ID.search(message):
            self.last = found[1]
        if found := VERSION.search(message):
            digits = re.sub(r"\D", "", found[1])
            if digits and (not self.noted or self.noted[-1][1] != int(digits)):
                self.noted.append((time.time_ns() // 1_000_000, int(digits)))
        if message.startswith("event: events"):
            data = next(line for line in message.splitlines() if line.startswith("data: "))
            for event in json.loads(data[6:]):
                self.seen[event["topic"], event["partition"], event["offset"], event["number"]] += 1


async def watch(host: str, port: int, tokens: list[str], *, pages: list[Stream]) -> None:
    """Until the input ends."""
    # As of several people, each of whom may open some.
    named = zip(itertools.cycle(tokens), pages, strict=False)
    tasks = [asyncio.create_task(page.follow(host, port, token)) for token, page in named]
    await asyncio.gather(*(page.heard.wait() for page in pages))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


def main() -> None:
    """Everything that was seen, as one line."""
    host, port, tokens, task, pages, readers, begin = sys.argv[1:]
    opened = [Stream(f"/live/tasks/{task}") for _ in range(int(pages))]
    reading = [Stream("/api/v1/events/stream", begin) for _ in range(int(readers))]
    asyncio.run(watch(host, int(port), tokens.split(","), pages=opened + reading))
    told = {
        "noted": [one.noted for one in opened],
        "comebacks": [one.comebacks for one in opened + reading],
        "refreshes": sum(one.refreshes for one in opened + reading),
        "events": [len(one.seen) for one in reading],
        "doubled": sum(count - 1 for one in reading for count in one.seen.values()),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
