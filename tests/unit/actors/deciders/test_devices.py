"""Rows of devices: they say what objects would, in a fraction of the memory."""

from __future__ import annotations

import pytest

from actors.deciders.decider import digest
from actors.deciders.devices import NO_ROUND, Device, Devices

KEYS = [bytes([number]) * 32 for number in range(3)]


def _three() -> Devices:
    devices = Devices()
    for name, key in zip("abc", KEYS, strict=True):
        devices.add(name, key)
    return devices


def test_a_device_begins_without_a_participation() -> None:
    """Its first lease makes it known; one that has had none is not here."""
    devices = _three()
    assert devices.get("b") == Device(KEYS[1], participations=0, round=NO_ROUND)
    assert devices.get("d") is None
    assert len(devices) == 3


def test_the_first_key_stays() -> None:
    """Adding a device again changes nothing."""
    devices = _three()
    devices.add("a", KEYS[2])
    assert devices.get("a") == Device(KEYS[0])
    assert len(devices) == 3


def test_a_participation_touches_one_row() -> None:
    """It counts, and remembers the newest round; the rows before and after stay as they were."""
    devices = _three()
    devices.take_part("b", 4)
    devices.take_part("b", 7)
    expected = {"a": Device(KEYS[0]), "b": Device(KEYS[1], 2, 7), "c": Device(KEYS[2])}
    assert dict(devices.items()) == expected
    assert [*dict(devices.items())] == ["a", "b", "c"]


def test_a_stranger_takes_part_in_nothing() -> None:
    """A device that never had a lease is a fault of whoever calls."""
    with pytest.raises(KeyError):
        _three().take_part("d", 0)


def test_a_device_takes_a_row_of_40_bytes() -> None:
    """Memory and digests grow by rows: a million devices are 40 MB beside their names."""
    assert len(_three().rows) == 3 * 40
    assert digest(_three()) == digest(_three())
