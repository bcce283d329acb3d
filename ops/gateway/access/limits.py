"""How often an address, a device and a class of devices may ask: a bucket of tokens each, here or shared in Redis.

An address is counted before anything else is looked at. A device and its class are counted once it has proven who it
is, so that nobody uses up what is another's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.gateway.access.shared import SharedAway, SharedBuckets
from ops.gateway.refusals import TooOften, tell_refusal
from ops.web.access.limiting import Limiter, RateExceeded
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.http.device_protocol import Window

KINDS = ("address", "device", "class")
# Whether the process lives, and whether devices should be sent to it: who refuses a balancer is taken for dead.
ALIVE, READY = "/healthz", "/readyz"
# Addresses or devices that are remembered at once, 200 bytes each.
KEYS_MAX = 100_000
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})")

logger = structlog.get_logger(__name__)


class LimitUnreadable(FedlogError):
    """A limit is KIND=N/SECONDS, with a KIND of address, device and class: `--limit device=300/60`."""

    exit_code = EXIT_USAGE
    code = "limit_unreadable"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds; all of them at once, where nobody has asked for as long."""

    amount: int
    seconds: int


# For devices of strangers. A hospital behind one address has hundreds of devices, which each wait in one request.
STRANGERS: Mapping[str, Rate] = {"address": Rate(3_000, 10), "device": Rate(300, 60)}


def parse_limits(texts: list[str]) -> dict[str, Rate]:
    """Limits as a command line has them. Raises LimitUnreadable."""
    found = {}
    for text in texts:
        kind, _, rate = text.partition("=")
        if kind not in KINDS or (match := _RATE.fullmatch(rate)) is None:
            raise LimitUnreadable(f"--limit {text}: {LimitUnreadable.__doc__}")
        found[kind] = Rate(int(match[1]), int(match[2]))
    return found


@dataclass(slots=True)
class Limits:
    """The buckets of one gateway, or those that several share; without a rate of its kind nothing is counted."""

    rates: Mapping[str, Rate] = field(default_factory=dict)
    shared: SharedBuckets | None = None
    _own: dict[str, Limiter] = field(default_factory=dict)
    _is_shared: bool = True

    @property
    def is_shared_as_asked(self) -> bool:
        """Whether tokens are counted in Redis, or nobody asked for that."""
        return self.shared is None or self._is_shared

    def describe(self) -> str:
        """Where tokens are counted now."""
        if not self.rates:
            return "off"
        return "own" if self.shared is None else ("shared" if self._is_shared else "own: Redis is away")

    async def take(self, kind: str, name: str) -> None:
        """One request of this address, device or class. Raises TooOften."""
        if (rate := self.rates.get(kind)) is None:
            return
        if not await self._is_free(kind, name, rate=rate):
            # All come back at different times, the last when its bucket is full again.
            window = Window(max(1_000, 250 * rate.seconds), max(2_000, 1_000 * rate.seconds))
            raise TooOften(f"More than {rate.amount} requests in {rate.seconds} s of one {kind}.", window=window)

    async def take_device(self, device: str, unit: str) -> None:
        """One request of this device, and of its class where it has one. Raises TooOften."""
        await self.take("device", device)
        if unit:
            await self.take("class", unit)

    async def _is_free(self, kind: str, name: str, *, rate: Rate) -> bool:
        if self.shared is not None:
            try:
                is_free = await self.shared.take(kind, name, amount=rate.amount, seconds=rate.seconds)
            except SharedAway as error:
                self._note(is_shared=False, reason=str(error))
            else:
                self._note(is_shared=True)
                return is_free
        return self._take_own(kind, name, rate=rate)

    def _take_own(self, kind: str, name: str, *, rate: Rate) -> bool:
        if (buckets := self._own.get(kind)) is None:
            buckets = Limiter(rate.amount / rate.seconds, burst=rate.amount, keys_max=KEYS_MAX)
            self._own[kind] = buckets
        try:
            buckets.take(name)
        except RateExceeded:
            return False
        return True

    def _note(self, *, is_shared: bool, reason: str = "") -> None:
        if is_shared != self._is_shared:
            # Once for each change, and not for each request meanwhile.
            told = logger.info if is_shared else logger.warning
            told("limits_shared_again" if is_shared else "limits_are_local", reason=reason)
        self._is_shared = is_shared


@dataclass(frozen=True, slots=True)
class Turnstile:
    """Counts every request of an address, before anything of it is looked at."""

    app: ASGIApp
    limits: Limits
    behind_proxy: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on."""
        if scope["type"] == "http" and scope["path"] not in (ALIVE, READY):
            try:
                await self.limits.take("address", find_address(scope, behind_proxy=self.behind_proxy))
            except TooOften as refusal:
                await tell_refusal(refusal, closes=scope["method"] in ("POST", "PATCH"))(scope, receive, send)
                return
        await self.app(scope, receive, send)


def find_address(scope: Scope, *, behind_proxy: bool) -> str:
    """Whose request it is: an IPv4 address, or the network of an IPv6 one, of which a household has 2^64."""
    text = (scope.get("client") or ("", 0))[0]
    if behind_proxy:
        # Only the last is the proxy's own word; what stands before it came from outside.
        given = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        text = given[-1].decode("latin-1").rpartition(",")[2].strip() if given else text
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return ""
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
