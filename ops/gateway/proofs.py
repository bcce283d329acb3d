"""Whether the device of a lease has sent a request: its signature, once, and not long ago by the gateway's clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request

from ops.gateway.entry import Entrant, read_clock_ms
from ops.gateway.refusals import SignatureOld, Unproven
from schemas.canonical import MalformedError
from schemas.http.signing import Lines, Message, Proven, verify_request

# How far a device's clock may be off: what was signed is remembered for as long.
SKEW_S_MAX = 300
REMEMBERED_MAX = 200_000


@dataclass(slots=True)
class Proofs:
    """Signatures that were seen. `base`: how devices name this gateway, where a proxy passes on another name."""

    base: str = ""
    clock_ms: Callable[[], int] = read_clock_ms
    _seen: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def require(self, request: Request, entrant: Entrant) -> None:
        """Raises Unproven, SignatureOld."""
        host = urlsplit(self.base).netloc or request.headers.get("host", "")
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
        # The path as it was sent: another spelling of it has another signature.
        path = request.scope["raw_path"].decode("latin-1")
        message = Message(request.method, f"https://{host}{path}", Lines(pairs))
        try:
            proven = verify_request(message, entrant.lease.public_key)
        except MalformedError as error:
            raise Unproven(str(error), code="signature_invalid") from error
        self._require_fresh(proven, entrant)

    def _require_fresh(self, proven: Proven, entrant: Entrant) -> None:
        now_s = self.clock_ms() // 1000
        skew_s = proven.created_s - now_s
        if abs(skew_s) > SKEW_S_MAX:
            # Told, so that nobody has to guess: a phone's clock may be years off, and its owner cannot set it.
            raise SignatureOld(
                f"The request was signed {abs(skew_s)} s {'after' if skew_s > 0 else 'before'} the gateway's time.",
                code="clock_differs",
                skew_s=skew_s,
                now_s=now_s,
            )
        name = f"{entrant.lease.lease}/{proven.nonce}"
        if name in self._seen:
            raise SignatureOld("This very request has come before.", code="replayed")
        self._seen[name] = now_s
        self._forget(now_s)

    def _forget(self, now_s: int) -> None:
        # Twice the skew: what was signed in the future is good for as long again.
        while self._seen:
            oldest, seen_s = next(iter(self._seen.items()))
            if seen_s + 2 * SKEW_S_MAX >= now_s and len(self._seen) <= REMEMBERED_MAX:
                break
            del self._seen[oldest]
