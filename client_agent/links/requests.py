"""Requests to a gateway: connections that are kept, and the moment at which the gateway wants to be asked again.

The only user of aiohttp. All of it runs in one event loop, that of a link's thread.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from schemas.errors import EXIT_USAGE, FedlogError
from schemas.http.device_protocol import RETRY, WAIT_S_MAX, Window, parse_window

# Where a gateway said nothing of when to ask again, or was not reached at all.
WINDOW = Window(1_000, 4_000)
# Whatever a gateway says: nobody is asked again at once, or tomorrow.
WINDOW_MS_MIN, WINDOW_MS_MAX = 200, 600_000
CONNECT_S = 10.0
# Longer than a gateway holds a request that waits.
ANSWER_S = WAIT_S_MAX + 10.0
# No answer that is read whole is longer; models are read in pieces.
ANSWER_BYTES_MAX = 1 << 20
PIECE_BYTES = 1 << 16
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class GatewayUnfit(FedlogError):
    """The address of a gateway cannot be used."""

    exit_code = EXIT_USAGE
    code = "gateway_unfit"


class Unreachable(Exception):
    """No answer came, or one of a gateway that cannot take more: ask again within `window`, as it told where it did."""

    def __init__(self, reason: str, window: Window, *, is_told: bool = False) -> None:
        super().__init__(reason)
        self.window, self.is_told = window, is_told


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How a gateway is reached. `ca_file`: whom to believe about its name, instead of the system's authorities.

    `pin`: the sha256 of its certificate, in hex; then no authority is asked at all. A proxy is the environment's.
    """

    url: str
    ca_file: Path | None = None
    pin: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GatewayUnfit(f"{self.url}: the address of a gateway begins with https://.")
        # A lease is no secret from its gateway, and is one from everybody on the way.
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise GatewayUnfit(f"{self.url}: without TLS a gateway is reached on this machine alone.")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a gateway, whole."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def window(self) -> Window:
        """From when to when to ask again."""
        return parse_window(self.headers.get(RETRY)) or WINDOW


def draw_wait_s(window: Window) -> float:
    """A moment within a window: devices that were refused together do not return together."""
    drawn_ms = random.uniform(window.min_ms, window.max_ms)
    return min(max(drawn_ms, WINDOW_MS_MIN), WINDOW_MS_MAX) / 1000


class GatewayClient:
    """One gateway, with its connections. Use it as a context."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._base = options.url.rstrip("/") + "/"
        # By how much the gateway's clock is ahead of ours, as it has told.
        self.skew_s = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        options = self._options
        tls: ssl.SSLContext | aiohttp.Fingerprint | bool = True
        if options.pin:
            tls = aiohttp.Fingerprint(bytes.fromhex(options.pin))
        elif options.ca_file is not None:
            tls = ssl.create_default_context(cafile=str(options.ca_file))
        # Without a limit: whoever waits for an answer holds a connection, and others must not queue behind it.
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        is_near = urlsplit(options.url).hostname in LOOPBACK
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
            trust_env=not is_near,
            auto_decompress=False,
            max_line_size=16_384,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def resolve(self, location: str) -> str:
        """Where a Location leads: an upload belongs to the gateway that it names. Raises Unreachable."""
        try:
            url = urljoin(self._base, location)
            there, here = urlsplit(url), urlsplit(self._base)
            is_near = there.hostname in LOOPBACK
        except ValueError as error:
            raise Unreachable(f"the gateway names no address: {location[:100]!r}", WINDOW) from error
        # What goes there is a lease and a whole update, and the device's pin says nothing without TLS.
        if there.scheme != here.scheme or (there.scheme == "http" and not is_near):
            raise Unreachable(f"the gateway names an address that is not like its own: {location[:100]!r}", WINDOW)
        return url

    async def ask(
        self, method: str, path: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request and its answer. Raises Unreachable for none, and for one that says later."""
        assert self._session is not None
        # The server says whether it wants a long body before any of it leaves.
        expects = len(data) > PIECE_BYTES
        try:
            async with self._session.request(
                method,
                self.resolve(path),
                data=data or None,
                headers=headers,
                expect100=expects,
                allow_redirects=False,
            ) as answer:
                # In all, and not for each byte: an answer that drips is none.
                async with asyncio.timeout(ANSWER_S):
                    read = await answer.content.read(ANSWER_BYTES_MAX) if answer.content_length else b""
                    while len(read) < (answer.content_length or 0) <= ANSWER_BYTES_MAX:
                        read += await answer.content.read(ANSWER_BYTES_MAX)
                reply = Reply(answer.status, answer.headers, read)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}", WINDOW) from error
        if reply.status in (408, 425, 429) or reply.status >= 500:
            raise Unreachable(f"the gateway answers {reply.status}", reply.window, is_told=True)
        return reply

    async def read_from(self, path: str, offset: int, *, etag: str) -> AsyncIterator[bytes]:
        """The bytes of a resource from `offset` on. Raises Unreachable where they end early, or none come."""
        assert self._session is not None
        headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
        try:
            async with self._session.get(self.resolve(path), headers=headers, allow_redirects=False) as answer:
                if answer.status != (206 if offset else 200):
                    window = parse_window(answer.headers.get(RETRY)) or WINDOW
                    raise Unreachable(f"the gateway answers {answer.status}", window, is_told=True)
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}", WINDOW) from error


async def wait_within(window: Window) -> None:
    """Wait for a moment within a window."""
    await asyncio.sleep(draw_wait_s(window))
