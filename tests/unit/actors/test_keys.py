"""The operator's key: what is sealed under it cannot be changed, and its file is handled with care."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.keys import OperatorKey, OperatorKeyError, Seals, create, load
from schemas.canonical import encode
from tests.worlds.builders import KEY, lease

LEASE = lease("phone-7", version=3)


def test_a_seal_opens_to_its_lease() -> None:
    """Whoever holds the operator's key opens what another process sealed with it."""
    assert Seals(OperatorKey(bytes(range(32)))).open(Seals(KEY).seal(LEASE)) == LEASE


def test_any_changed_byte_breaks_the_seal() -> None:
    """Not one byte of a sealed lease can be changed, whatever to."""
    seals = Seals(KEY)
    sealed = seals.seal(LEASE)
    for at in range(len(sealed)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(sealed)
            changed[at] ^= flip
            assert seals.open(bytes(changed)) is None


def test_other_lengths_and_junk_are_no_seal() -> None:
    """Truncated, lengthened and random bytes open to nothing, and raise nothing."""
    seals = Seals(KEY)
    sealed = seals.seal(LEASE)
    for data in (b"", sealed[:-1], sealed + b"\x00", b"\xc1" * 200, encode([b"", bytes(32)]), encode(LEASE)):
        assert seals.open(data) is None


def test_another_key_opens_nothing() -> None:
    """A lease sealed under another operator's key is a forgery."""
    assert Seals(OperatorKey(bytes(32))).open(Seals(KEY).seal(LEASE)) is None


def test_each_use_has_a_key_of_its_own() -> None:
    """Seals, noise and the key's public name are derived apart: none tells anything about another."""
    derived = [KEY.derive("seal"), KEY.noise, KEY.derive("key-id"), KEY.secret]
    assert len(set(derived)) == 4
    assert KEY.key_id not in b"".join(derived)
    assert len(KEY.key_id) == 8
    assert OperatorKey(bytes(32)).key_id != KEY.key_id


def test_derivation_never_changes() -> None:
    """The noise of a journal is recomputed years later: the derivation is HKDF-SHA256 with these labels for ever."""
    assert KEY.noise.hex() == NOISE_HEX
    assert KEY.key_id.hex() == KEY_ID_HEX


NOISE_HEX = "6eed33ea99a616bf03f6e47ff63a356b7b31cc85d7648bcae7d789956e0e3e95"
KEY_ID_HEX = "af8f5b1bf96dedd1"


def test_a_secret_does_not_show() -> None:
    """Neither repr nor str of a key tells the secret to a log."""
    assert KEY.secret.hex() not in f"{KEY!r} {KEY}"
    assert repr(KEY.secret) not in f"{KEY!r} {KEY}"


def test_a_new_key_is_for_its_owner_only(tmp_path: Path) -> None:
    """A key file has mode 0600 and comes back as it was made."""
    path = tmp_path / "deep" / "operator.key"
    made = create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path) == made
    assert create(tmp_path / "other.key") != made


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """A key that was in use is never lost to a second `create`."""
    path = tmp_path / "operator.key"
    create(path)
    before = path.read_bytes()
    with pytest.raises(OperatorKeyError, match="exists"):
        create(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A file that anybody else may read is refused, and the message says what to run."""
    path = tmp_path / "operator.key"
    create(path)
    path.chmod(mode)
    with pytest.raises(OperatorKeyError, match=f"{mode:04o}.*chmod 600"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"00" * 31, b"00" * 33, b"zz" * 32, b"0x" + b"00" * 31, b"\xff\xfe" * 32, b"\x00" * 32],
    ids=["empty", "blank", "short", "long", "no hex", "prefix", "no text", "binary"],
)
def test_a_key_file_with_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """Only 64 hex digits are a key; anything else is refused with a message, whatever the bytes."""
    path = tmp_path / "operator.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(OperatorKeyError, match="64 hex digits"):
        load(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    """The first error that a new operator meets names the command."""
    with pytest.raises(OperatorKeyError, match="fedlog key create"):
        load(tmp_path / "operator.key")
