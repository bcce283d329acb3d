"""A token is what this folder's key signed, for as long as it says, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.web.access.tokens import FILE, SubjectInvalid, TokenKey, TokenKeyUnfit, open_key
from ops.web.callers import Unauthenticated

KEY = TokenKey(bytes(range(32)))
SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_who_holds_a_token_is_who_it_names() -> None:
    """Subject and role come back, and each token has a secret of its own for forms."""
    first, second = (KEY.read(KEY.issue(subject="ada", role="operator", expires_s=60)) for _ in range(2))
    assert (first.subject, first.role) == ("ada", "operator")
    assert len(first.csrf) == 32
    assert first.csrf != second.csrf


def claims(**changes: object) -> dict[str, object]:
    """What a token of ours says, with other values for some of it."""
    return {"iss": "fedlog", "sub": "ada", "role": "admin", "exp": int(time.time()) + 60, **changes}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "no token",
        "a." * 2_000,
        jwt.encode(claims(), Ed25519PrivateKey.from_private_bytes(bytes(32)), algorithm="EdDSA"),
        jwt.encode(claims(), None, algorithm="none"),
        jwt.encode(claims(), SIGNING.public_key().public_bytes_raw().hex(), algorithm="HS256"),
        jwt.encode(claims(exp=int(time.time()) - 1), SIGNING, algorithm="EdDSA"),
        jwt.encode(claims(role="god"), SIGNING, algorithm="EdDSA"),
        jwt.encode(claims(iss="another"), SIGNING, algorithm="EdDSA"),
        jwt.encode({"iss": "fedlog", "sub": "ada", "role": "admin"}, SIGNING, algorithm="EdDSA"),
    ],
)
def test_any_other_token_lets_nobody_in(token: str) -> None:
    """Of another key, of no key, over, without an end, or for a role that is none."""
    with pytest.raises(Unauthenticated):
        KEY.read(token)


@pytest.mark.parametrize("subject", ["", " ada", "ada\n", "a" * 65, "\x1b[31m"])
def test_a_subject_is_a_name(subject: str) -> None:
    """It stands in the log with what its holder changes, and on terminals."""
    with pytest.raises(SubjectInvalid):
        KEY.issue(subject=subject, role="viewer", expires_s=60)


def test_the_first_start_makes_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, another one in each folder, and the same from then on."""
    key, is_new = open_key(tmp_path)
    assert is_new
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert open_key(tmp_path) == (key, False)
    (tmp_path / "other").mkdir()
    assert open_key(tmp_path / "other")[0] != key
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [FILE]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """And so is a file that holds no key; neither is replaced."""
    open_key(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(TokenKeyUnfit, match="chmod 600"):
        open_key(tmp_path)
    (tmp_path / FILE).chmod(0o600)
    (tmp_path / FILE).write_text("no key")
    with pytest.raises(TokenKeyUnfit, match="is no key"):
        open_key(tmp_path)
