"""The operator's key and those of the roles: each holds what it needs, and its file is handled with care."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from actors.keys import (
    ROLE_SECRETS,
    SERIAL_MAX,
    OperatorKeyError,
    PartialSeals,
    create,
    load,
    load_role,
    save_role,
)
from schemas.events import BodyMeasured
from tests.worlds.builders import DEPLOYMENT, KEY, body_ref, role_key

ROLE = role_key("aggregator")


def test_each_use_has_a_key_of_its_own() -> None:
    """What is derived is derived apart: nothing that a role holds tells anything about another's, or the operator's."""
    roles = [KEY.issue(role, DEPLOYMENT, until_ms=1) for role in ROLE_SECRETS]
    held = [
        KEY.secret,
        KEY.derive_noise(DEPLOYMENT).secret,
        KEY.signing.private_bytes_raw(),
        *(role.secret for role in roles),
    ]
    assert len({*held, *(secret for role in roles for secret in role.shared.values())}) == len(held) + 3
    assert KEY.derive_noise(DEPLOYMENT).id not in b"".join(held)


def test_a_role_holds_what_it_needs_and_no_more() -> None:
    """The noise key goes to the aggregator alone, and the operator's to nobody."""
    held = {role: {*role_key(role).shared} for role in ROLE_SECRETS}
    assert held == {
        "selector": {"marks"},
        "aggregator": {"noise", "partials", "marks"},
        "privacy": set(),
        "shard": {"partials"},
        "evaluator": set(),
        "registrar": set(),
        "rollout": set(),
        "enroller": {"subjects"},
    }
    for role in ROLE_SECRETS:
        assert KEY.secret not in msgspec.msgpack.encode(role_key(role))


def test_another_deployment_has_other_keys() -> None:
    """A worker that is taken over in staging says nothing in production."""
    assert role_key("selector", deployment=bytes(16)).secret != role_key("selector").secret


def test_noise_of_another_deployment_is_other_noise() -> None:
    """Guarantee: whoever takes over staging's aggregator can take no noise off what production publishes."""
    staging, here = (role_key("aggregator", deployment=name) for name in (bytes(16), DEPLOYMENT))
    assert staging.noise.secret != here.noise.secret
    assert here.noise == KEY.derive_noise(DEPLOYMENT)


def test_a_serial_gives_another_key_after_a_leak() -> None:
    """Guarantee: nothing of a file that leaked is in that of the next serial, and its certificate tells no secret."""
    # An enroller has to know a name again, whichever key it signs with.
    for role in ROLE_SECRETS.keys() - {"enroller"}:
        leaked, new = (KEY.issue(role, DEPLOYMENT, until_ms=1, serial=serial) for serial in (0, 1))
        assert leaked == KEY.issue(role, DEPLOYMENT, until_ms=1)
        assert leaked.secret != new.secret
        assert not {*leaked.shared.values()} & {*new.shared.values()}
        assert new.trust().find_certificate(new.certificate) is not None
        assert all(secret not in new.certificate for secret in (new.secret, *new.shared.values()))


def test_an_auditor_finds_the_noise_key_of_any_serial() -> None:
    """Guarantee: a full replay draws the noise again after any number of leaks, from the name in the mechanism."""
    for serial in (0, 1, SERIAL_MAX):
        drawn = KEY.issue("aggregator", DEPLOYMENT, until_ms=1, serial=serial).noise
        assert KEY.find_noise(DEPLOYMENT, drawn.id) == drawn
    assert KEY.find_noise(bytes(16), KEY.derive_noise(DEPLOYMENT).id) is None


def test_a_seal_of_another_deployment_is_none() -> None:
    """Guarantee: what staging's shard workers measured, by staging's policy, is no clip scale in production."""
    measured = BodyMeasured(
        task="digits", body=body_ref("big", "shards"), clip_scale=65_536, fault=None, seal=bytes(32)
    )
    staging, here = (PartialSeals(role_key("shard", deployment=name)) for name in (bytes(16), DEPLOYMENT))
    ours = PartialSeals(role_key("aggregator"))
    assert [ours.holds(seals.seal(measured)) for seals in (staging, here)] == [False, True]


def test_derivation_never_changes() -> None:
    """The noise of a journal is recomputed years later: the derivation is HKDF-SHA256 with these labels for ever."""
    assert KEY.derive_noise(DEPLOYMENT).secret.hex() == NOISE_HEX
    assert KEY.derive_noise(DEPLOYMENT).id.hex() == KEY_ID_HEX


NOISE_HEX = "9d2f42124b15beb9920856da850dc995b9812323590202971cf01f84b766394b"
KEY_ID_HEX = "660062ee1a59a88b"


def test_a_role_key_comes_back_from_its_file(tmp_path: Path) -> None:
    """Mode 0600, for this role alone; issuing again writes the same."""
    path = tmp_path / "aggregator.key"
    save_role(ROLE, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_role(path, "aggregator") == ROLE
    with pytest.raises(OperatorKeyError, match="of aggregator, not of selector"):
        load_role(path, "selector")
    save_role(ROLE, path)
    path.write_text(KEY.secret.hex())
    with pytest.raises(OperatorKeyError, match="not the key file of a role"):
        load_role(path, "aggregator")
    with pytest.raises(OperatorKeyError, match="fedlog key issue --for selector"):
        load_role(tmp_path / "nowhere", "selector")


def test_a_secret_does_not_show() -> None:
    """Neither repr nor str of a key tells the secret to a log."""
    assert ROLE.secret.hex() not in f"{ROLE!r} {ROLE}"
    assert repr(ROLE.secret) not in f"{ROLE!r} {ROLE}"
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
