"""Requests to a gateway that were changed at random, byte by byte: no answer of 500 or more, and no memory that grows.

python -m tests.trials.attacks.mutations --requests 1000000 --seed 7

Each begins as one that a device sends, signed and whole, so that what is changed gets far. `make fuzz` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import socket
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from ops.gateway import exchange, uploads
from ops.gateway.access.watching import Books
from ops.gateway.access.wire import StrictHttp
from ops.gateway.gates import Outside
from schemas.http.device_protocol import write_digest
from tests.worlds.device_world import TASK, large
from tests.worlds.gateway.asking import Behind, carrying, opened

AT_ONCE = 8
# What has not been answered by then is not going to be: such a request waits for more of itself.
ANSWER_S = 1.0
WORDS = (
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"/", b"..", b"%2e%2e%2f", b"%00", b"\xff\xfe", b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Host: elsewhere\r\n",
    b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Prefer: wait=9999\r\n", b"Range: bytes=0-0,1-1\r\n", b"Upload-Offset: 99999999999999999999\r\n", b"A" * 20_000,
)  # fmt: skip


def write_request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def list_seeds(behind: Behind) -> list[bytes]:
    """Requests that devices send."""
    host = {"Host": urlsplit(behind.url).netloc}
    data, sealed = bytes(2_000), behind.lease()
    digest = write_digest(hashlib.sha256(data).digest())
    begun = carrying(sealed, Repr_Digest=digest, Upload_Length="2000", Upload_Complete="?1")
    model = behind.world.created.model.sha256.hex()
    return [
        write_request("GET", f"/v1/tasks/{TASK}", host),
        write_request("GET", f"/v1/models/{model}", {**host, "Range": "bytes=1-"}),
        write_request("POST", "/v1/check-ins", host, behind.checkin()),
        write_request("POST", "/v1/enrolments", host, behind.checkin()),
        write_request("POST", "/v1/updates", {**host, **carrying(sealed)}, behind.update(sealed)),
        write_request("POST", "/v1/uploads", {**host, **behind.sign("POST", "/v1/uploads", begun)}, data),
        write_request("DELETE", "/v1/uploads/0", {**host, **carrying(sealed)}),
    ]


def change(request: bytes, draw: random.Random) -> bytes:
    """The request with some of it changed."""
    changed = bytearray(request)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(changed) + 1)
        end = min(len(changed), at + draw.choice((1, 2, 10, 100)))
        match draw.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end]
            case 3:
                changed[at:at] = draw.choice(WORDS)
            case _:
                changed[at:end] = draw.randbytes(end - at)
    return bytes(changed)


def ask(url: str, request: bytes) -> int:
    """The status of the answer to these bytes; 0 for none."""
    at = urlsplit(url)
    try:
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=ANSWER_S) as connection:
            connection.sendall(request)
            head = connection.recv(4_096)
    except OSError:
        return 0
    return int(head[9:12]) if head[:5] == b"HTTP/" and head[9:12].isdigit() else 0


def attack(folder: Path, *, requests: int, seed: int, say: Callable[[str], object] = print) -> Counter[int]:
    """How often each status was answered. Raises AssertionError for one of 500 or more, and for memory that grows."""
    answered, books = Counter[int](), Books()
    # Whoever sends half a request is not waited for as long as a phone would be.
    StrictHttp.ask_wait_s, exchange.BODY_WAIT_S, uploads.SILENCE_S = 0.2, 0.2, 0.2
    with opened(folder, large(), outside=Outside(books=books)) as behind, ThreadPoolExecutor(AT_ONCE) as pool:
        seeds, draw, process, before = list_seeds(behind), random.Random(seed), psutil.Process(), 0
        statuses = [ask(behind.url, request) for request in seeds]
        assert statuses == [200, 206, 202, 400, 202, 200, 403], statuses
        while (done := answered.total()) < requests:
            batch = [change(draw.choice(seeds), draw) for _ in range(min(1_000, requests - done))]
            statuses = list(pool.map(lambda request: ask(behind.url, request), batch))
            for status, request in zip(statuses, batch, strict=True):
                assert status < 500, (status, seed, request)
            answered.update(statuses)
            before = before or process.memory_info().rss
        grown = process.memory_info().rss - before
        say(f"{before / 2**20:.0f} MiB after the first thousand, {grown / 2**20:.0f} more at the end")
        assert grown < 64 * 2**20, f"{grown:,} bytes more"
        found = {code: count for labels, count in list_samples(books, "refusals") for code in labels.values()}
        say(" ".join(f"{code} {count:.0f}" for code, count in sorted(found.items(), key=lambda each: -each[1])))
        # Also those that nobody waited for.
        failed = [labels for labels, _ in list_samples(books, "requests") if labels["status"] >= "500"]
        assert not failed, (failed, seed)
    return answered


def list_samples(books: Books, name: str) -> list[tuple[dict[str, str], float]]:
    """What one of the counters of a gateway says, by its labels."""
    return [
        (dict(sample.labels), sample.value)
        for metric in books.instruments.registry.collect()
        for sample in metric.samples
        if sample.name == f"fedlog_gateway_{name}_total"
    ]


def main() -> None:
    """Attack, and print what was answered."""
    parser = argparse.ArgumentParser(prog="python -m tests.trials.attacks.mutations")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = parser.parse_args()
    print(f"--requests {asked.requests} --seed {asked.seed}")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        print(dict(sorted(attack(Path(folder), requests=asked.requests, seed=asked.seed).items())))  # noqa: T201


if __name__ == "__main__":
    main()
