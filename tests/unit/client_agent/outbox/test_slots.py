"""The large pieces of an outbox, in files that are used again."""

from __future__ import annotations

from pathlib import Path

from client_agent.outbox.slots import SMALL_BYTES_MAX, Slots


def test_slots_in_use_are_left_alone(tmp_path: Path) -> None:
    """Guarantee: no piece is written over while the index names it, and free slots are used again."""
    slots = Slots(tmp_path / "x", synced=True)
    one, two, three = (bytes([number]) * (SMALL_BYTES_MAX + number) for number in (1, 2, 3))
    first = slots.put(one, taken=[None, b"small"])
    second = slots.put(two, taken=[first])
    assert (slots.get(first), slots.get(second), slots.get(b"small")) == (one, two, b"small")
    third = slots.put(three[: SMALL_BYTES_MAX + 1], taken=[first])
    assert (third, slots.get(third), slots.get(first)) == (second, three[: SMALL_BYTES_MAX + 1], one)
    assert len(list(tmp_path.iterdir())) == 2
    assert slots.put(b"small", taken=[]) == b"small"
