"""A receipt: the proof of what became of one update, checked with the operator's public key and nothing else.

That an update is in a version: the leaf, its way to the members root, and the announcement that signs this root.
That it is in none: the aggregator's signed answer to the device. `docs/receipts/check_receipt.py` checks both without
fedlog.
"""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust
from schemas.errors import FedlogError
from schemas.events import Outcome
from schemas.identifiers import Count, UpdateId, Version
from schemas.published import AGGREGATOR, is_vouched_for, parse_checkpoint
from schemas.receipts.members import MembershipProof, hash_row, is_member

Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z")]
ADMITTED = "admitted"


class ReceiptInvalid(FedlogError):
    """A receipt does not prove what it says."""

    code = "receipt_invalid"


class Inclusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fedlog.inclusion.v1"):
    """The update is in a version. `announcement` is its record in `published`, byte for byte; bytes are in hex.

    `zeroed`: why it counts as zero; empty where it counts.
    """

    update: UpdateId
    salt: Hex
    body_sha256: Hex
    weight: Count
    clip_scale: Count
    zeroed: str
    index: Count
    path: tuple[Hex, ...]
    announcement: str


class Exclusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fedlog.exclusion.v1"):
    """The update is in no version: the aggregator's signed answer, byte for byte, in hex."""

    answer: Hex


Receipt = Inclusion | Exclusion


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt proves: `version` is None where the update is in none, and `outcome` then says why."""

    update: UpdateId
    task: str
    outcome: str
    version: Version | None = None
    body_sha256: str = ""


def encode_receipt(receipt: Receipt) -> bytes:
    """The file, as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(receipt), indent=1) + b"\n"


def parse_receipt(data: bytes) -> Receipt:
    """What stands in a file. Raises ReceiptInvalid."""
    try:
        found: Receipt = msgspec.json.decode(data, type=Receipt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReceiptInvalid(f"This is no receipt of fedlog: {error}.") from error
    return found


def check(receipt: Receipt, operator: bytes) -> Verdict:
    """What it proves to whoever trusts the holder of this public key. Raises ReceiptInvalid."""
    if isinstance(receipt, Inclusion):
        return _check_inclusion(receipt, Trust(operator))
    # When it was answered stands nowhere in the answer, so that the end of the certificate says nothing here.
    payload = Trust(operator).read(bytes.fromhex(receipt.answer), AGGREGATOR, at_ms=0)
    if payload is None:
        raise ReceiptInvalid("The answer is not signed by an aggregator that this operator certified.")
    try:
        outcome = decode(payload, Outcome)
    except MalformedError as error:
        raise ReceiptInvalid(f"What the aggregator signed is no outcome: {error}.") from error
    if outcome.outcome == ADMITTED:
        raise ReceiptInvalid("The answer says that the update was admitted; whether it is in a version it cannot say.")
    return Verdict(update=outcome.update, task=outcome.task, outcome=outcome.outcome)


def _check_inclusion(receipt: Inclusion, trust: Trust) -> Verdict:
    try:
        announced = parse_checkpoint(receipt.announcement.encode())
    except MalformedError as error:
        raise ReceiptInvalid(f"The announcement of the version cannot be believed: {error}.") from error
    if not announced.is_version or not is_vouched_for(announced, trust):
        raise ReceiptInvalid("The announcement is not signed by an aggregator that this operator certified.")
    data = json.loads(receipt.announcement)["data"]
    row = (
        bytes.fromhex(receipt.salt),
        receipt.update,
        bytes.fromhex(receipt.body_sha256),
        receipt.weight,
        receipt.clip_scale,
        receipt.zeroed,
    )
    path = tuple(bytes.fromhex(node) for node in receipt.path)
    # The number of members and the root are those that are signed; what the receipt says of itself proves nothing.
    proof = MembershipProof(index=receipt.index, members=data["members"], path=path)
    root = bytes.fromhex(data["members_root"] or "")
    if not is_member(hash_row(row), proof, root=root, members=data["members"]):
        raise ReceiptInvalid("The update is not where the receipt says: its way does not lead to the announced root.")
    return Verdict(
        update=receipt.update,
        task=data["task"],
        outcome=ADMITTED,
        version=data["version"],
        body_sha256=receipt.body_sha256,
    )
