"""An event in a few words: what somebody looks for, on one line, and never an error."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ops.history.records import Line, lines
from ops.history.telling import _WORDS, tell
from schemas.canonical import encode
from schemas.events import AnyEvent, Noticed
from streams.log import Record
from tests.unit.ops.history.test_records import READABLE
from tests.worlds.ops_journal import PLACE, created

UPDATE = {
    "round": 4,
    "update": "ab" * 16,
    "device": "cd" * 32,
    "version": 3,
    "staleness": 1,
    "weight": 524_288,
    "clip_scale": 32_768,
    "zeroed": None,
    "deadline_ms": 1_700_000_060_000,
}


def line(name: str, values: dict[str, Any], *, task: str | None = "digits") -> Line:
    """A line of the aggregator's journal."""
    return Line(topic="rounds", partition=1, offset=9, seq=2, time_ms=0, name=name, task=task, values=values)


def test_every_kind_of_event_has_words() -> None:
    """Who reads the log meets no event that only a program can read; a notice is said like what was noticed."""
    assert {kind.__name__ for kind in get_args(AnyEvent)} - {Noticed.__name__} <= {*_WORDS}


def test_what_the_log_counts_in_its_own_units_is_said_in_those_of_people() -> None:
    """A weight of 2^19 is half, a clip scale of 2^15 is a half too; what is missing leaves no gap."""
    told = tell(line("UpdateAdmitted", UPDATE))
    assert told == (
        "00:00:00.000  rounds[1]@9 #2            UpdateAdmitted     digits: round 4: update abababab… of device "
        "cdcdcdcd…: version 3, staleness 1, weight 0.5, scaled to 50.0%"
    )
    assert tell(line("UpdateAdmitted", {**UPDATE, "clip_scale": 65_536, "zeroed": "stale"})).endswith(
        "weight 0.5, counts as zero: stale"
    )


@pytest.mark.parametrize("case", READABLE)
def test_whatever_a_topic_holds_stands_on_one_line(case: str) -> None:
    """Records without words of their own, as bodies and announcements, show their fields."""
    found, name, _ = READABLE[case]
    (one,) = lines(found)
    assert name in tell(one)
    assert "\n" not in tell(one)


def test_an_event_without_what_its_words_need_shows_its_fields() -> None:
    """A newer release's event, or a stranger's, is shown and not hidden."""
    assert tell(line("RoundOpened", {"other": 1})).endswith("RoundOpened        other=1")
    assert tell(line("NeverHeardOf", {"round": 1})).endswith("NeverHeardOf       round=1")


def test_who_stands_apart_is_named() -> None:
    """Of a comparison people look for how many stand apart and which, and not for the seed."""
    apart = {"round": 4, "members": 20, "seed": "ef" * 32, "anomalies": [{"device": "cd" * 32, "z": 4_000}]}
    assert tell(line("MembersCompared", apart)).endswith("round 4: 1 of 20 updates stand apart, of [cdcdcdcd…]")
    assert tell(line("MembersCompared", {**apart, "anomalies": []})).endswith("round 4: 0 of 20 updates stand apart")


def test_a_long_line_goes_on_below_its_place() -> None:
    """On a narrow terminal every line fits, and no word is lost or cut."""
    (one,) = lines(Record("tasks", PLACE, 7, 1_000, None, encode(created())))
    whole, narrow = tell(one), tell(one, columns=48)
    assert max(len(part) for part in narrow.splitlines()[1:]) <= 48
    assert narrow.split() == whole.split()
    assert tell(one, columns=500) == whole


def test_a_stranger_cannot_move_the_cursor() -> None:
    """Names and texts of others are escaped in words as they are in fields."""
    told = tell(line("DefectFound", {**UPDATE, "error": "\x1b[2J", "count": 1}, task="a\x1b[2J"))
    assert "\x1b" not in told
    assert "\x1b" not in tell(line("UpdatesDeclined", {"counts": {"\x1b[2J": 1}}))
