"""The system's page says how far the log was verified, what waits, and whether the broker answers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from ops.history.tables.projector import TOPICS
from ops.history.tables.serving import WriterGone
from ops.history.verified import Reached, Verified
from ops.web.reaching import LogState
from ops.web.site import Concern
from streams.log import TopicPartition
from tests.gallery import paint
from tests.serving import make_client, opened_site
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


def read_section(text: str, name: str = "verified") -> str:
    """What the section says."""
    found = re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)
    assert found is not None
    return found[0]


def read_counts(text: str) -> dict[str, str]:
    """The lines of the section about what waits."""
    told = re.findall(r"<dt>(.*?)</dt><dd>(?:<span[^>]*>)?(.*?)(?:</span>)?</dd>", read_section(text, "lag"))
    return dict(told)


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


def test_what_waits_is_counted(tmp_path: Path) -> None:
    """An update that no aggregator has seen, a round that is not released, offsets that the history has not read."""
    world = Federation(policy(), parameters=4)
    for name in "abcd":
        world.pass_ms(1_000)
        world.device(name).check_in()
        world.settle()
        # The last one is sent, and nobody decides on it.
        world.device(name).submit(np.ones(4, np.float32), world.rules)
        if name != "d":
            world.settle()
    with opened_site(tmp_path, world.log) as (site, _):
        places = [TopicPartition(topic, number) for topic in TOPICS for number in range(world.log.partitions)]
        ends = {at: bounds.end for at, bounds in world.log.list_bounds(places).items()}
        updates = TopicPartition("updates", world.partition)

        def count(state: LogState | None, at: str = "") -> dict[str, str]:
            client = make_client(dataclasses.replace(site, find_log=lambda: state))
            return read_counts(client.get("/system", params={"at": at} if at else {}).text)

        waits = {"updates without a decision": "1", "rounds without a release": "0"}
        unread = "offsets that the history has not read"
        assert count(None) == waits
        assert count(LogState(is_away=False, ends=ends)) == {**waits, "broker": "answers", unread: "0"}
        # The marker of a transaction that ended after the history had read what is in it.
        marked = {at: end + (end > 0 and at.topic == "rounds") for at, end in ends.items()}
        assert count(LogState(is_away=False, ends=marked))[unread] == "0"
        more = LogState(is_away=True, ends={**ends, updates: ends[updates] + 5})
        assert count(more) == {**waits, "broker": "out of reach", unread: "5"}
        assert count(LogState(is_away=True))[unread] == "–"
        assert count(more, f"{world.task}@0") == dict.fromkeys(waits, "0")


def test_what_is_wrong_stands_there_for_operators_also_while_no_history_answers(tmp_path: Path) -> None:
    """The findings of a look at the deployment come with their remedies, and name files to nobody else."""
    concern = Concern(tone="bad", what="keys: operator.key: mode 0644", remedy="chmod 600 operator.key")
    with opened_site(tmp_path, paint().log) as (found, _):
        site = dataclasses.replace(found, list_concerns=lambda: [concern])
        told = read_section(make_client(site, role="operator").get("/system").text, "alerts")
        assert "mode 0644" in told
        assert "chmod 600 operator.key" in told
        assert "operator.key" not in make_client(site, role="viewer").get("/system").text
        gone = dataclasses.replace(site, reader=Gone(), hidden=Gone())
        answer = make_client(gone, role="operator").get("/system")
        assert answer.status_code == 503
        assert "it is stuck" in answer.text
        assert "chmod 600 operator.key" in answer.text
        assert "operator.key" not in make_client(gone, role="viewer").get("/system").text


class Gone:
    """A history that nobody answers for."""

    def __getattr__(self, name: str) -> object:
        raise WriterGone("Who writes the history has not answered: it is stuck.")
