"""Traffic that a gateway should refuse: `hostile PORT SECONDS SPEC`, in a process beside the honest one.

SPEC is a file of requests that were taken, hex a line: they are sent again, as they were and with a bit of a signature
changed. It says what it was answered, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.bench.peers.raw_http import Connection, allow_connections

# So many connections of each kind ask without a rest; of the slow ones each holds its own for as long as it may.
EACH = 40
SLOW = 200
# Others than the honest one's: 127.0.0.0/8 is all loopback.
SOURCES = [f"127.0.2.{number}" for number in range(1, 21)]

Ask = Callable[[Connection], Awaitable[object]]


def list_kinds(port: int, taken: list[bytes]) -> dict[str, Ask]:
    """Each kind of hostility, as one request."""
    spoilt = [request[:-1] + bytes([request[-1] ^ 1]) for request in taken]
    turns = {"replay": iter(taken * 1_000_000), "bad signature": iter(spoilt * 1_000_000)}

    async def send_again(connection: Connection, kind: str) -> object:
        return await connection.send(next(turns[kind]))

    return {
        "junk bytes": lambda connection: connection.send(os.urandom(600) + b"\r\n\r\n"),
        "junk check-in": lambda connection: connection.ask("POST", "/v1/check-ins", os.urandom(400)),
        "junk update": lambda connection: connection.ask(
            "POST", "/v1/updates", os.urandom(3_000), {"Fedlog-Lease": ":AA==:"}
        ),
        "huge header": lambda connection: connection.ask("GET", "/v1/deployment", b"", {"X": "x" * 100_000}),
        "replay": lambda connection: send_again(connection, "replay"),
        "bad signature": lambda connection: send_again(connection, "bad signature"),
    }


async def attack(port: int, seconds: float, taken: list[bytes]) -> Counter[str]:
    """Everything at once, for so long."""
    answers: Counter[str] = Counter()
    until_s = time.monotonic() + seconds

    async def insist(kind: str, ask: Ask, number: int) -> None:
        connection = Connection(port, source=SOURCES[number % len(SOURCES)])
        while time.monotonic() < until_s:
            try:
                async with asyncio.timeout(max(0.1, until_s - time.monotonic())):
                    answered = await ask(connection)
                answers[f"{kind}: {answered[0] if isinstance(answered, tuple) else answered}"] += 1
            except (
                OSError,
                TimeoutError,
                asyncio.IncompleteReadError,
                asyncio.LimitOverrunError,
                ValueError,
                IndexError,
            ):
                answers[f"{kind}: cut"] += 1
                await connection.close()

    async def dribble(number: int) -> None:
        head = f"POST /v1/check-ins HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n\r\n".encode()
        while time.monotonic() < until_s:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(SOURCES[number % 20], 0))
                writer.write(head)
                while time.monotonic() < until_s and not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.5)
                writer.close()
            answers["slow body"] += 1

    kinds = list_kinds(port, taken)
    working = [insist(kind, ask, number) for kind, ask in kinds.items() for number in range(EACH)]
    await asyncio.gather(*working, *(dribble(number) for number in range(SLOW)))
    return answers


def main() -> None:
    """As the command line says."""
    port, seconds, spec = sys.argv[1:]
    allow_connections()
    taken = [bytes.fromhex(line) for line in Path(spec).read_text().splitlines()]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(asyncio.run(attack(int(port), float(seconds), taken))) + "\n")


if __name__ == "__main__":
    main()
