"""The page is one file that runs nothing, asks nobody, and shows what it was given as text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from ops.web.report.page import render
from ops.web.report.questions import Incident, Told, collect
from ops.web.report.suppression import ShownSizes
from ops.web.report.verdict import NOT_RUN, Verdict
from tests.gallery import DONE, MAIN, paint
from tests.tables import synced

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class _Elements(HTMLParser):
    """Every element and attribute of a page, as a browser's parser finds them, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """A private task and one without privacy, both with scores."""
    with synced(tmp_path_factory.mktemp("history") / "history.duckdb", paint().log) as history:
        yield {task: collect(history.ask, task) for task in (MAIN, DONE)}


def test_the_page_stands_alone(told: dict[str, Told]) -> None:
    """No script, no address of anything, no form; and a policy that forbids them should one come in."""
    for each in told.values():
        page = render(each, NOT_RUN)
        found = _Elements(page)
        assert not found.tags & {"script", "img", "link", "iframe", "object", "form", "a", "base"}
        assert not [name for name in found.attributes if name.startswith("on") or name in ("src", "href", "action")]
        assert not re.findall(r"url\(|@import|https?://", page)
        assert "default-src &#39;none&#39;" in page
        assert page.startswith("<!doctype html>")


def test_whatever_comes_from_the_log_is_text(told: dict[str, Told]) -> None:
    """Markup in a name, a reason, a cohort or a metric is read as it was written, and adds no element."""
    each = told[MAIN]
    policy = msgspec.structs.replace(each.policy, model=HOSTILE, data=HOSTILE)
    hostile = dataclasses.replace(
        each,
        task=HOSTILE,
        parent=HOSTILE,
        status=f"halted: {HOSTILE}",
        policy=policy,
        sizes=ShownSizes(groups=[(HOSTILE, 40)], others=0, total=40),
        scores={HOSTILE: [(0, 0.5), (1, 0.75)]},
        incidents=[Incident(HOSTILE, HOSTILE, 3)],
    )
    plain = dataclasses.replace(each, parent="other")
    found = _Elements(render(hostile, Verdict(word=HOSTILE, tone="bad", figures=[(HOSTILE, HOSTILE)], note=HOSTILE)))
    expected = _Elements(render(plain, Verdict(word="", tone="bad", figures=[("a", "b")], note="c")))
    assert found.tags <= expected.tags
    assert found.attributes <= expected.attributes
    assert found.text.count("<script>alert(1)</script>") >= 12


def test_everything_is_told(told: dict[str, Told]) -> None:
    """Who took part, how well it does, what it cost, what went wrong, and that nobody has checked it."""
    text = _Elements(render(told[MAIN], NOT_RUN)).text
    for words in (
        "tablets",
        "accuracy",
        "Zero-out",
        "ε at δ = 1e-05",
        "ε at δ = 1e-08",
        "lease expired",
        "not checked",
    ):
        assert words in text
    assert "No differential privacy" in _Elements(render(told[DONE], NOT_RUN)).text


def test_where_the_total_is_hidden_no_other_number_tells_it(told: dict[str, Told]) -> None:
    """A device is at most once in a round: the size of a round, or of all together, would bound what is hidden."""
    each = told[DONE]
    policy = msgspec.structs.replace(
        each.policy, aggregation=msgspec.structs.replace(each.policy.aggregation, updates_per_round=7_777)
    )
    versions = {**each.versions, "updates": 8_888, "members_max": 7_777, "members_min": 7_777}
    nothing = ShownSizes(groups=[], others=None, total=None)
    shown = dataclasses.replace(each, policy=policy, versions=versions, sizes=nothing)
    text = re.sub(r"\s", "", _Elements(render(shown, NOT_RUN)).text)
    assert "8888" not in text
    assert "7777" not in text


def test_an_empty_history_has_a_page(tmp_path: Path) -> None:
    """A task that has only been created is a report too."""
    from tests.worlds.builders import policy
    from tests.worlds.federation import Federation

    world = Federation(policy(), parameters=4)
    world.settle()
    with synced(tmp_path / "history.duckdb", world.log) as history:
        assert "No score yet" in render(collect(history.ask, "digits"), NOT_RUN)
