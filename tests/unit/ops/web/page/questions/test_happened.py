"""Events are found by task, device, kind and reason, page after page, each once; causes lead back and forth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.web.page.moment import Moment
from ops.web.page.questions.happened import Filter, Happened, list_caused, list_events, list_kinds, read_record
from ops.web.reading import OwnHistory
from tests.gallery import MAIN, paint
from tests.tables import synced


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """The gallery as it stands at its end."""
    with synced(tmp_path_factory.mktemp("history") / "history.duckdb", paint().log) as history:
        yield Moment(OwnHistory(history), history.position, paint().now_ms)


def _list_all(moment: Moment, **asked: str) -> list[Happened]:
    """Every page after the other."""
    found: list[Happened] = []
    before = ""
    while True:
        page = list_events(moment, Filter(**asked, before=before), limit=40)
        found += page[:40]
        if len(page) <= 40:
            return found
        before = page[39].key


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"task": MAIN, "kind": "UpdateAdmitted"}, "event = 'UpdateAdmitted' AND task = $task"),
        ({"task": "campus.rings"}, "task = $task"),
        ({"reason": "expired"}, "\"values\" ->> 'outcome' = 'expired'"),
    ],
)
def test_pages_hold_each_event_once(moment: Moment, asked: dict[str, str], where: str) -> None:
    """Through all pages the events are those of the table, in the order of time, none twice."""
    found = _list_all(moment, **asked)
    told = moment.ask(
        f'SELECT topic, partition, "offset", number FROM events WHERE {where}',
        **({"task": asked["task"]} if "task" in asked else {}),
    )
    places = [(one.topic, one.partition, one.offset, one.number) for one in found]
    assert len(places) == len({*places})
    assert {*places} == {(row["topic"], row["partition"], row["offset"], row["number"]) for row in told}
    assert [one.at_ms for one in found] == sorted((one.at_ms for one in found), reverse=True)


def test_an_admission_is_caused_by_its_update(moment: Moment) -> None:
    """The input of a decision names the record of the update, and that record names the decision as its effect."""
    admitted = list_events(moment, Filter(task=MAIN, kind="UpdateAdmitted"))[0]
    assert admitted.input_topic == "updates"
    assert admitted.input_offset is not None
    caused = list_caused(moment, "updates", partition=admitted.partition, offset=admitted.input_offset)
    assert admitted.key in [one.key for one in caused]
    [sent] = read_record(moment, "updates", partition=admitted.partition, offset=admitted.input_offset)
    assert (sent.kind, sent.values["lease"]) == ("Submission", admitted.values["update"])


def test_no_kind_of_that_name_is_no_event(moment: Moment) -> None:
    """What an address may hold is compared with what there is, and never becomes a part of a question."""
    assert list_events(moment, Filter(kind="x' OR 1=1 --")) == []
    assert list_events(moment, Filter(device="'; DROP TABLE facts.task_created")) == []
    assert list_events(moment, Filter(before="nonsense"))
    assert "UpdateAdmitted" in list_kinds()
