"""The demo's JSON: what a script reads of the proof."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from actors import keys
from ops.history.task_view import TaskView
from ops.processes.demo import Demo, Edge
from ops.processes.panel import describe_progress
from ops.processes.services import Services
from ops.settings import resolve
from ops.terminal.commands.training.fleet import read_tokens
from schemas.certificates import Trust
from schemas.events import EnrolmentOpened
from schemas.identity.orders import hear_in_name
from schemas.identity.tokens import EnrolmentToken
from schemas.topics import CATALOGUE, ENROLMENTS
from streams.log import TopicPartition, scan
from streams.memory import MemoryLog
from tests.worlds.ops_journal import TASK, created


@pytest.mark.parametrize("unchecked", [[], ["digits/1 (needs the operator's key)"]])
def test_the_demo_tells_what_its_replay_did_not_check(unchecked: list[str]) -> None:
    """The verdict is the replay's own, and whatever was not compared stands beside it."""
    verdict = "identical" if not unchecked else "identical, as far as it could be checked: 0 of 1 models"
    demo = Demo(resolve({}), keep=False, view=MagicMock())
    report = demo._report(MagicMock(refused={}), {"replay": verdict, "unchecked": unchecked}, seconds=1.0)
    assert (report["replay"], report["unchecked"]) == (verdict, unchecked)


@pytest.mark.parametrize("has_gateway", [False, True])
def test_the_demo_says_how_its_devices_came(has_gateway: bool) -> None:
    """Guarantee: a script reads whether devices enrolled and came through a gateway, and in which tier."""
    demo = Demo(resolve({}), keep=False, view=MagicMock(), has_gateway=has_gateway)
    report = demo._report(MagicMock(refused={}), {}, seconds=1.0)
    assert (report["gateway"], report["tier"]) == (has_gateway, "sealed" if has_gateway else "plain")
    assert report["identity"] == ("enrolled" if has_gateway else "open")


def test_each_device_of_the_demo_has_a_token_of_its_own(tmp_path: Path) -> None:
    """Guarantee: as many may enrol as there are devices, and nobody else of the machine reads their tokens."""
    settings = resolve({"folder": tmp_path, "operator_key_file": tmp_path / "operator.key"})
    key, log = keys.create(settings.operator_key_file), MemoryLog(CATALOGUE)
    edge = Edge(Services(settings, task=TASK), task=TASK)
    edge.open(log, devices=3)
    [_, file] = edge.list_fleet_options()[1::2]
    assert Path(file).stat().st_mode & 0o777 == 0o600
    trust = Trust(key.public_key)
    tokens = [hear_in_name(data, EnrolmentToken, trust=trust, at_ms=0) for data in read_tokens(Path(file))]
    assert len({token.subject for token in tokens}) == 3
    [opened] = [
        order
        for number in range(log.partitions)
        for record in scan(log, TopicPartition(ENROLMENTS.name, number))
        if (order := hear_in_name(record.value or b"", EnrolmentOpened, trust=trust, at_ms=0))
    ]
    assert (opened.population, opened.quota) == (tokens[0].population, 3)


def test_progress_says_how_far_and_how_long() -> None:
    """Percent of the versions, and what the others take at the pace so far; no promise before the first."""
    view = TaskView(task=TASK, created=created())
    goal = created().policy.stop.versions_max
    assert describe_progress(view) == "0 %"
    published = MagicMock()
    view.published, view.published_ms = {0: published}, {0: 1_000}
    assert describe_progress(view) == "0 %"
    view.published, view.published_ms = {0: published, 1: published}, {0: 1_000, 1: 2_000}
    assert describe_progress(view) == f"{100 / goal:.0f} %, {goal - 1} s left"
    view.closed = True
    assert describe_progress(view) == f"{100 / goal:.0f} %"
