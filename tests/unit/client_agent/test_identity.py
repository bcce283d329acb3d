"""A device's name and key, in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_agent.identity import FILE, IdentityError, open_identity


def test_a_device_stays_who_it_is(tmp_path: Path) -> None:
    """Guarantee: every start on the same folder has the same name and key; another folder has others."""
    first, again = open_identity(tmp_path / "a"), open_identity(tmp_path / "a")
    other = open_identity(tmp_path / "b")
    assert (first.device, first.public_key) == (again.device, again.public_key)
    assert first.device != other.device
    assert first.public_key != other.public_key


def test_a_secret_repeats_the_key(tmp_path: Path) -> None:
    """Guarantee: a simulation that gives the secret gets the same key on every run."""
    one = open_identity(tmp_path / "a", "phone", secret=bytes(32))
    assert one.public_key == open_identity(tmp_path / "b", "phone", secret=bytes(32)).public_key


def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    """Guarantee: the file is written for its owner only, and a file that others can read is refused."""
    open_identity(tmp_path)
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        open_identity(tmp_path)


@pytest.mark.parametrize("name", ["a b", "x" * 64, "Ümlaut"])
def test_a_name_that_no_event_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    """Guarantee: such a name fails before anything is written, and not at the first check-in."""
    with pytest.raises(IdentityError, match="letters, digits"):
        open_identity(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_device_is_refused(tmp_path: Path) -> None:
    """Guarantee: a device does not take over another one's key by a wrong folder."""
    open_identity(tmp_path, "phone")
    with pytest.raises(IdentityError, match="belongs to device 'phone'"):
        open_identity(tmp_path, "tablet")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"device":"phone","key":"AAAA"}'])
def test_a_file_without_an_identity_is_named(tmp_path: Path, content: bytes) -> None:
    """Guarantee: a damaged file stops the device with its path; it never gets a new key silently."""
    path = tmp_path / FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="holds no identity"):
        open_identity(tmp_path)
