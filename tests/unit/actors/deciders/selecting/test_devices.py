"""Rows of devices: they say what objects would, in a fraction of the memory."""

from __future__ import annotations

from actors.deciders.decider import digest
from actors.deciders.selecting.devices import NO_ROUND, Device, Devices


def _three() -> Devices:
    devices = Devices()
    for sent_ms, name in enumerate("abc", 1):
        devices.note_lease(name, sent_ms)
    return devices


def test_a_device_begins_without_a_participation() -> None:
    """Its first lease makes it known; one that has had none is not here."""
    devices = _three()
    assert devices.get("b") == Device(sent_ms=2, participations=0, round=NO_ROUND)
    assert devices.get("d") is None
    assert len(devices) == 3


def test_the_newest_lease_counts() -> None:
    """A second lease moves the time, and nothing else of the row."""
    devices = _three()
    devices.take_part("a", 4)
    devices.note_lease("a", 1 << 60)
    assert devices.get("a") == Device(1 << 60, 1, 4)
    assert len(devices) == 3


def test_a_participation_touches_one_row() -> None:
    """It counts, and remembers the newest round; the rows before and after stay as they were."""
    devices = _three()
    devices.take_part("b", 4)
    devices.take_part("b", 7)
    assert dict(devices.items()) == {"a": Device(1), "b": Device(2, 2, 7), "c": Device(3)}
    assert [*dict(devices.items())] == ["a", "b", "c"]


def test_a_participation_of_a_stranger_counts() -> None:
    """An admission whose lease is not in this journal is a participation all the same: it has to be paid for."""
    devices = _three()
    devices.take_part("d", 0)
    assert devices.get("d") == Device(participations=1, round=0)


def test_a_device_takes_a_row_of_16_bytes() -> None:
    """Memory and digests grow by rows: a million devices are 16 MB beside their names."""
    assert len(_three().rows) == 3 * 16
    assert digest(_three()) == digest(_three())
