"""What a helper says in `masks`: signed with its own key, which the policy names, and chained along each task.

Its journal is the file in which it keeps the same bytes; the topic is what others see of it. Where the topic has
something of its own hand that the file does not have, the file is an old copy, and the helper says nothing any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import MalformedError, decode, encode
from schemas.events import HelperEvent, MaskKeyOpened, ModelCosigned, RoundProposed, TaskCreated
from schemas.events.masks import HELPERS_MAX
from schemas.identifiers import Count, Deployment, Sha256
from schemas.signing import is_signed_by, parse_signed, sign

FIRST = bytes(32)


class HelperSaid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="HelperSaid/1"):
    """One statement about one task; `prev` is the sha256 of the whole statement before, zeros for the first."""

    deployment: Deployment
    seq: Count
    prev: Sha256
    event: HelperEvent


def sign_said(said: HelperSaid, key: Ed25519PrivateKey) -> bytes:
    """The record's value."""
    return sign(encode(said), key)


def digest_said(value: bytes) -> bytes:
    """What the next statement names as the one before."""
    return hashlib.sha256(value).digest()


def open_said(value: bytes, created: TaskCreated) -> HelperSaid | None:
    """A statement about this task; None for what none of the helpers signed that its policy names. Raises Malformed."""
    signed = parse_signed(value)
    said = decode(signed.payload, HelperSaid)
    keys = created.policy.masked_by.public_keys
    is_here = said.deployment == created.deployment and said.event.task == created.task
    if not is_here or said.event.helper >= len(keys):
        return None
    return said if is_signed_by(signed, keys[said.event.helper]) else None


def read_word(value: bytes, public_keys: Collection[bytes]) -> tuple[bytes, HelperSaid, bytes] | None:
    """Which of these helpers has signed a statement, what it says, and its digest; None for what is none of theirs."""
    try:
        signed = parse_signed(value)
        said = decode(signed.payload, HelperSaid)
    except MalformedError:
        return None
    helper = next((key for key in public_keys if is_signed_by(signed, key)), None)
    return None if helper is None else (helper, said, digest_said(value))


def digest_proposal(proposed: RoundProposed) -> bytes:
    """What a helper binds itself to: every word of a proposal, its mechanism included."""
    return hashlib.sha256(encode(proposed)).digest()


# --- the keys of an epoch, as a lease's answer brings them ----------------------------------------------------------


def is_joined(data: bytes) -> bool:
    """Whether an answer's keys have this form; of one aggregator's there are three parts."""
    try:
        return len(decode(data, tuple[bytes, ...])) <= HELPERS_MAX
    except MalformedError:
        return False


def join_statements(statements: tuple[bytes, ...]) -> bytes:
    """One statement a helper, in their order."""
    return encode(statements)


def open_mask_keys(data: bytes, created: TaskCreated, *, epoch: int) -> tuple[bytes, ...] | None:
    """The public key of each helper for an epoch; None where one is missing, of another epoch, or not its own word."""
    try:
        values = decode(data, tuple[bytes, ...])
        said = [open_said(value, created) for value in values]
    except MalformedError:
        return None
    events = [each.event for each in said if each is not None and isinstance(each.event, MaskKeyOpened)]
    expected = [(helper, epoch) for helper in range(len(created.policy.masked_by.public_keys))]
    if len(values) != len(events) or [(event.helper, event.epoch) for event in events] != expected:
        return None
    return tuple(event.public_key for event in events)


def find_cosigning_fault(data: bytes, created: TaskCreated, *, version: int, model_sha256: bytes) -> str | None:
    """What is wrong with the words of helpers about the model of a version; None where each has co-signed this one."""
    try:
        said = [open_said(value, created) for value in decode(data, tuple[bytes, ...])]
    except MalformedError:
        return "no words of helpers"
    events = [each.event for each in said if each is not None and isinstance(each.event, ModelCosigned)]
    signed = {event.helper: event.model_sha256 for event in events if event.version == version}
    for helper in range(len(created.policy.masked_by.public_keys)):
        if signed.get(helper, model_sha256) != model_sha256:
            return f"helper {helper} has co-signed another model"
        if helper not in signed:
            return f"helper {helper} has not co-signed it"
    return None
