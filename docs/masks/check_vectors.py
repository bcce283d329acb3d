"""Checks the test vectors of masked tasks without fedlog: python check_vectors.py vectors.json.

It needs two packages: pip install cryptography msgpack. Everything but the primitives is written anew, from RFC 5869,
RFC 9180, NIST SP 800-38A and draft-connolly-cfrg-xwing-kem.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path

import msgpack
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SUITE = b"HPKE" + bytes.fromhex("647a00010003")


def expand(key, info, length):
    """HKDF-Expand with SHA-256, RFC 5869, section 2.3."""
    out = block = b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        out += block
    return out[:length]


def make_mask(seed, helper, header, count):
    """The keystream of AES-256-CTR, read as little-endian words of 32 bits."""
    derived = expand(seed, f"hmask1|mask|{helper}|".encode() + header, 48)
    stream = Cipher(algorithms.AES256(derived[:32]), modes.CTR(derived[32:])).encryptor().update(bytes(4 * count))
    return [int.from_bytes(stream[4 * place : 4 * place + 4], "little") for place in range(count)]


def write(words):
    """Words as they are stored."""
    return b"".join((word % 2**32).to_bytes(4, "little") for word in words)


def extract(salt, label, value):
    """LabeledExtract, RFC 9180, section 4."""
    return hmac.digest(salt, b"HPKE-v1" + SUITE + label + value, "sha256")


def open_sealed(sealed, secret, info):
    """HPKE's base mode with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305; the secret is ML-KEM's seed, then X25519's."""
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), X25519PrivateKey.from_private_bytes(secret[64:])
    theirs = sealed[1088:1120]
    parts = [mlkem.decapsulate(sealed[:1088]), x25519.exchange(X25519PublicKey.from_public_bytes(theirs)), theirs]
    parts += [x25519.public_key().public_bytes_raw(), bytes.fromhex("5c2e2f2f5e5c")]
    shared = extract(hashlib.sha3_256(b"".join(parts)).digest(), b"secret", b"")
    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    key, nonce = (
        expand(shared, length.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + context, length)
        for label, length in ((b"key", 32), (b"base_nonce", 12))
    )
    return ChaCha20Poly1305(key).decrypt(nonce, sealed[1120:], b"")


def check(vectors):
    """Raises AssertionError, or whatever else is wrong; how many things hold."""
    for each in vectors["masks"]:
        words = make_mask(bytes.fromhex(each["seed"]), each["helper"], bytes.fromhex(each["header"]), each["count"])
        assert [*words[:4], *words[-4:]] == each["first"] + each["last"], "another mask"
        assert hashlib.sha256(write(words)).hexdigest() == each["sha256"], "another mask"
    for each in vectors["seals"]:
        fields = {
            name: bytes.fromhex(value[4:]) if str(value)[:4] == "hex:" else value for name, value in each["fields"]
        }
        header = msgpack.packb(fields)
        assert header.hex() == each["header"], "another header"
        info = f"hmask1|seal|{each['helper']}|".encode() + header + bytes.fromhex(each["body_sha256"])
        seed = open_sealed(bytes.fromhex(each["sealed"]), bytes.fromhex(each["secret"]), info)
        assert seed.hex() == each["seed"], "another seed"
    told = vectors["round"]
    count, sums, masked = len(told["sum"]), [[0] * len(told["sum"]) for _ in range(2)], [0] * len(told["sum"])
    for member in told["members"]:
        header, weight = bytes.fromhex(member["header"]), member["weight"]
        masks = [make_mask(bytes.fromhex(seed), j, header, count) for j, seed in enumerate(member["seeds"])]
        body = [sum(words) for words in zip(member["vector"], *masks, strict=True)]
        assert write(body).hex() == member["body"], "another masked vector"
        masked = [total + weight * word for total, word in zip(masked, body, strict=True)]
        sums = [
            [total + weight * word for total, word in zip(one, mask, strict=True)]
            for one, mask in zip(sums, masks, strict=True)
        ]
    assert [write(one).hex() for one in sums] == told["mask_sums"], "other sums of masks"
    left = [(total - sum(off)) % 2**32 for total, *off in zip(masked, *sums, strict=True)]
    assert [word - 2**32 * (word >= 2**31) for word in left] == told["sum"], "another sum"
    return len(vectors["masks"]) + len(vectors["seals"]) + 1


if __name__ == "__main__":
    sys.stdout.write(f"{check(json.loads(Path(sys.argv[1]).read_text()))} vectors hold\n")
