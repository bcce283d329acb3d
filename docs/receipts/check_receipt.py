"""Checks a receipt of fedlog without fedlog: python check_receipt.py RECEIPT.json OPERATORS-PUBLIC-KEY-IN-HEX.

It needs two packages: pip install cryptography msgpack.
"""

import hashlib
import json
import sys
from pathlib import Path

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def require_signature(key: bytes, signature: bytes, message: bytes) -> None:
    """Ed25519, RFC 8032."""
    Ed25519PublicKey.from_public_bytes(key).verify(signature, message)


def find_aggregator(certificate: bytes, operator: bytes) -> bytes:
    """The key for which the operator vouches."""
    payload, signature = msgpack.unpackb(certificate)
    require_signature(operator, signature, payload)
    said = msgpack.unpackb(payload)
    if (said["type"], said["role"]) != ("Certificate/1", "aggregator"):
        raise ValueError("the certificate is not an aggregator's")
    return said["public_key"]


def check_exclusion(receipt: dict, operator: bytes) -> str:
    """The aggregator's signed answer says that the update is in no round, and why."""
    payload, signature, certificate = msgpack.unpackb(bytes.fromhex(receipt["answer"]))
    require_signature(find_aggregator(certificate, operator), signature, payload)
    said = msgpack.unpackb(payload)
    if said["type"] != "Outcome/1" or said["outcome"] == "admitted":
        raise ValueError("the answer excludes nothing")
    return f"update {said['update']} is in no version of {said['task']}: {said['outcome']}"


def check_inclusion(receipt: dict, operator: bytes) -> str:
    """The announcement signs a root, and the update's leaf leads to it (RFC 9162, section 2.1)."""
    event = json.loads(receipt["announcement"])
    signature, key = bytes.fromhex(event.pop("signature")), bytes.fromhex(event["signedby"])
    require_signature(key, signature, json.dumps(event, separators=(",", ":"), sort_keys=True).encode())
    if key != operator and find_aggregator(bytes.fromhex(event["certificate"]), operator) != key:
        raise ValueError("the announcement is not signed by the key that the operator certified")
    salt, body = bytes.fromhex(receipt["salt"]), bytes.fromhex(receipt["body_sha256"])
    row = [salt, receipt["update"], body, receipt["weight"], receipt["clip_scale"], receipt["zeroed"]]
    node = hashlib.sha256(b"\x00" + msgpack.packb(row)).digest()
    place, last = receipt["index"], event["data"]["members"] - 1
    path = [bytes.fromhex(each) for each in receipt["path"]]
    while last > 0:
        # The last node of an odd level has none beside it, and goes up as it is.
        if place != last or place % 2:
            beside = path.pop(0)
            node = hashlib.sha256(b"\x01" + (beside + node if place % 2 else node + beside)).digest()
        place, last = place // 2, last // 2
    if path or place or node.hex() != event["data"]["members_root"]:
        raise ValueError("the update's way does not lead to the announced root")
    return f"update {receipt['update']} is in version {event['data']['version']} of {event['data']['task']}"


def main(path: str, operator: str) -> str:
    """What the receipt proves; an exception where it proves nothing."""
    receipt = json.loads(Path(path).read_text())
    check = {"fedlog.inclusion.v1": check_inclusion, "fedlog.exclusion.v1": check_exclusion}[receipt["type"]]
    return check(receipt, bytes.fromhex(operator))


if __name__ == "__main__":
    try:
        sys.stdout.write(main(*sys.argv[1:]) + "\n")
    except (InvalidSignature, ValueError, KeyError, IndexError, TypeError) as error:
        sys.exit(f"NOT PROVEN: {type(error).__name__} {error}")
