"""What an operator wrote is read back before it counts, and what hides it is told in true words."""

from __future__ import annotations

import pytest

from ops.operator import readback, tasks
from ops.operator.deployments import name_deployment
from ops.operator.errors import WriteHidden
from streams.log import Draft, TopicPartition
from tests.worlds.builders import KEY
from tests.worlds.ops_journal import PLACE, TASK, memory_log, policy


def test_an_open_transaction_is_not_another_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else's transaction hides is told as that, with its place; nobody is said to have come first."""
    log, at = memory_log(), TopicPartition("tasks", PLACE)
    name_deployment(log, KEY)
    monkeypatch.setattr(readback, "VISIBLE_WAIT_S", 0.1)
    stranger, held = log.writer("stranger"), log.bounds(at).end
    stranger.begin()
    stranger.put([Draft(topic="tasks", partition=PLACE, value=b"junk")])
    with pytest.raises(WriteHidden, match=rf"is written to .*left open hides all from tasks\[{PLACE}\]@{held} on"):
        tasks.create(log, TASK, key=KEY, policy=policy())
    stranger.finish()
    assert tasks.read_creations(log, PLACE, operator=KEY.public_key)[TASK].parameters == 6


def test_what_is_not_hidden_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign transaction that ends in time costs the wait and no error; where none is open none is named."""
    log, at, looks = memory_log(), TopicPartition("tasks", PLACE), iter((None, None, 7))
    assert readback.read_back(lambda: next(looks), log=log, at=at, what="It") == 7
    monkeypatch.setattr(readback, "VISIBLE_WAIT_S", 0.1)
    with pytest.raises(WriteHidden, match=r"^It is written to tasks\[\d+\], and cannot be read yet\.$"):
        readback.read_back(lambda: None, log=log, at=at, what="It")
