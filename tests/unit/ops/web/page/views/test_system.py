"""The system's page says how far the log was verified, and by whom that is told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from ops.history.verified import Reached, Verified
from tests.gallery import paint
from tests.serving import make_client, opened_site


def read_section(text: str) -> str:
    """What the section says."""
    found = re.search(r'<section id="verified".*?</section>', text, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_last_verified_position_is_what_the_note_says(tmp_path: Path) -> None:
    """No note, a good one, one with findings and one without the operator's key are told apart."""
    at = paint().partition
    whole = Reached(topic="rounds", partition=at, end=100, is_whole=True)
    broken = Reached(topic="ledger", partition=at, end=7, is_whole=False)
    with opened_site(tmp_path, paint().log) as (site, _):

        def show(note: Verified | None) -> str:
            client = make_client(dataclasses.replace(site, find_verified=lambda: note))
            return read_section(client.get("/system").text)

        assert "Nobody has verified" in show(None)
        good = show(Verified.make([whole], findings=0, knew_operator=True))
        newest = site.reader.ask("SELECT max(\"offset\") FROM events WHERE topic = 'rounds'").rows[0][0]
        assert "verdict good" in good
        assert f"<td>@99</td><td>{newest + 1 - 100}</td>" in good
        bad = show(Verified.make([whole, broken], findings=2, knew_operator=True))
        assert "verdict bad" in bad
        assert "2 findings" in bad
        assert "broken" in bad
        assert "Who signed was not checked" in show(Verified.make([whole], findings=0, knew_operator=False))
