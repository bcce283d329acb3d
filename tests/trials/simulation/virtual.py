"""Virtual time and entropy: while a world runs, everything that asks the machine is answered from the seed."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from logging import CRITICAL
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import dp_accounting
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.runtime import actor, inputs, journal
from client_agent.outbox import outbox
from client_agent.running import loop
from schemas import signing
from schemas.masking import seeds
from schemas.sealing import envelopes, partials
from schemas.tensors import BodyError
from streams import log

alarms: list[str] = []  # of the world that runs now

# Pure functions, and dear: what a world asks again and again is computed once.
_epsilon = lru_cache(maxsize=4_096)(dp_accounting.get_epsilon_gaussian)
_public_key = lru_cache(maxsize=256)(Ed25519PublicKey.from_public_bytes)


class _VerifiesOnce:
    """A public key that remembers which signatures it has found good."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    from_public_bytes = classmethod(lambda cls, raw: cls(raw))

    def verify(self, signature: bytes, payload: bytes) -> None:
        """Raises InvalidSignature."""
        _verified(self._raw, signature, payload)


@lru_cache(maxsize=4_096)
def _verified(raw: bytes, signature: bytes, payload: bytes) -> None:
    _public_key(raw).verify(signature, payload)


@contextmanager
def virtual(chance: random.Random, *, sleep: Callable[[float], None], clock: Callable[[], float]) -> Iterator[None]:
    """Entropy from `chance`, sleep and waits by virtual time, and limits so small that a short story meets them."""
    entropy = random.Random(chance.getrandbits(64))
    limits: list[tuple[Any, str, int]] = [
        (actor, "DIGEST_EVERY", chance.choice((1, 7, 40))),
        (inputs, "WRITTEN_AFTER_INPUTS", chance.choice((5, 10_000))),
        (journal, "_BATCH_BYTES", chance.choice((1_500, journal._BATCH_BYTES))),
        (outbox, "INLINE_BYTES_MAX", chance.choice((0, outbox.INLINE_BYTES_MAX))),
        # A device gives up a name that nobody knows; here selectors are away, and time leaps, for longer than it waits.
        (loop, "UNKNOWN_TASK_MS_MAX", 1 << 62),
    ]
    with ExitStack() as stack:
        for target, name, value in limits:
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch.object(os, "urandom", entropy.randbytes))
        stack.enter_context(patch.object(random, "_urandom", entropy.randbytes))
        stack.enter_context(patch.object(time, "sleep", sleep))
        stack.enter_context(patch.object(log, "time", SimpleNamespace(monotonic=clock)))
        stack.enter_context(patch.object(signing, "Ed25519PublicKey", _VerifiesOnce))
        stack.enter_context(patch.object(dp_accounting, "get_epsilon_gaussian", _epsilon))
        for target in (envelopes, partials, seeds):
            stack.enter_context(patch.object(target, "seal", _seal))
        stack.enter_context(patch.object(envelopes.EpochSecret, "open", _open))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL), processors=[_note])
        alarms.clear()
        yield


def _seal(plaintext: bytes, public_key: bytes, *, info: bytes) -> bytes:
    """In the place of HPKE, whose entropy no seed can give: as long, bound to the same, and no secret at all."""
    drawn = os.urandom(1120)
    whole = plaintext + _mark(drawn, public_key, info, plaintext)
    return drawn + whole


def _open(secret: envelopes.EpochSecret, envelope: bytes, info: bytes) -> bytes:
    drawn, plaintext, mark = envelope[:1120], envelope[1120:-16], envelope[-16:]
    if mark != _mark(drawn, secret.public_key, info, plaintext):
        raise BodyError("not_opened", "sealed to another key or for something else, or changed since")
    return plaintext


def _mark(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()[:16]


def _note(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Alarms are kept for the verdict; nothing is printed."""
    alarms.append(f"{event.get('event')}: {event.get('error')}")
    raise structlog.DropEvent
