"""Junk that no journal counts is counted in the process, and a flood of it is a few lines."""

from __future__ import annotations

from structlog.testing import capture_logs

from schemas.topics import PARTIALS
from streams.log import Record
from streams.skipped import Skipped


def test_a_flood_is_a_few_lines() -> None:
    """A line at every doubling: the first record is told at once, a thousand more cost ten lines."""
    skipped = Skipped()
    with capture_logs() as lines:
        for offset in range(1_000):
            skipped.note(Record(PARTIALS.name, 3, offset, 0, None, b"junk"), "not canonical")
    assert skipped.count == 1_000
    assert [line["count"] for line in lines] == [1 << power for power in range(10)]
    assert (lines[0]["place"], lines[0]["why"]) == ("partials[3]@0", "not canonical")
