"""Every robust rule on the log, with what hostile devices can write there: rounds end, and a replay is identical."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors import keys
from client_agent import device
from client_agent.compression import Compressed
from client_agent.hostile.attacks import parse_attack
from client_agent.local_update import LocalUpdate
from ops.audit.replay import Anchor, Audit
from ops.audit.verification import Verification
from ops.settings import resolve
from ops.virtual.running import VirtualRun
from schemas.events import ModelPublished, UpdateAdmitted, UpdateRefused
from schemas.tensors import pack
from schemas.topics import ROUNDS
from streams.exported import ExportedLog
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.unit.ops.virtual.test_running import options_of, project

__all__ = ["project"]
RULES = ("median", "trimmed_mean", "krum", "multi_krum", "centered_clipping")
SIZE = 3  # elements of the project's model
PLAIN = ("aggregation.updates_per_round=5", "robust.attackers_max=1", "stop.versions_max=4")


class Forgery:
    """Bodies that no honest device makes, one after the other; every fourth update is one."""

    def __init__(self, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self._bodies, self._count, self._honest = bodies, 0, device.make_update
        monkeypatch.setattr(device, "make_update", self.make_update)

    def make_update(self, *given: Any, **more: Any) -> LocalUpdate:
        """What the device sends in the place of its update."""
        made = self._honest(*given, **more)
        self._count += 1
        forged = self._bodies[self._count // 4 % len(self._bodies)]
        return made if self._count % 4 else replace(made, compressed=Compressed(forged, None))


def run_and_replay(project: Path, *changes: str, **more: Any) -> Iterator[Any]:
    """The events of a run's aggregator, after its log was found whole and was recomputed to the bit."""
    changes = (*PLAIN, 'compression.codec="float32"', "compression.error_feedback=false", *changes)
    run = VirtualRun(resolve({}), options_of(project, *changes, simulate=None, **more))
    with run:
        for _ in run.follow():
            pass
    log, key = ExportedLog(run.log_folder or Path()), keys.load(project / "state" / "operator.key")
    findings = Audit(log, 0, anchor=Anchor(operator=key.public_key), full=True).run()
    assert (findings.verdict, findings.differences, findings.unchecked) == ("identical", [], [])
    assert list(Verification(log, 0, operator=key.public_key).check()) == []
    for _, decision, _ in read_decisions(log, TopicPartition(ROUNDS.name, 0), trust=None):
        yield from decision.events


@pytest.mark.parametrize("rule", RULES)
def test_what_is_no_update_stops_no_rule(rule: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: NaN, infinity, what is off the grid and junk are refused by name, and rounds fill with the others."""
    floats = [np.full(SIZE, value, np.float32) for value in (np.nan, np.inf, 1e30)]
    Forgery([*map(pack, floats), b"junk", pack(np.ones(SIZE + 1, np.float32))], monkeypatch)
    events = list(run_and_replay(project, f"aggregation.rule={rule}"))
    refused = Counter(event.reason for event in events if isinstance(event, UpdateRefused))
    assert {"not_finite", "out_of_grid", "body_malformed", "body_shape"} <= set(refused)
    assert max(event.version for event in events if isinstance(event, ModelPublished)) == 4


@pytest.mark.parametrize("rule", RULES)
def test_the_longest_and_the_same_are_taken(rule: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: updates twice as long as the clip, of nothing, and identical ones are compared as any others."""
    floats = [np.full(SIZE, value, np.float32) for value in (8.0, -8.0, 0.0, 0.0)]
    Forgery([*map(pack, floats)], monkeypatch)
    events = list(run_and_replay(project, f"aggregation.rule={rule}"))
    bodies = Counter(event.body.sha256 for event in events if isinstance(event, UpdateAdmitted))
    assert max(bodies.values()) > 1
    assert max(event.version for event in events if isinstance(event, ModelPublished)) == 4


@pytest.mark.parametrize("rule", RULES)
def test_all_may_be_malicious(rule: str, project: Path) -> None:
    """Guarantee: no rule protects a task of attackers alone, and none stops: it ends, and says the same again."""
    events = list(run_and_replay(project, f"aggregation.rule={rule}", attack=parse_attack("gaussian:1")))
    assert max(event.version for event in events if isinstance(event, ModelPublished)) == 4


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "centered_clipping"])
def test_a_round_may_be_of_one(rule: str, project: Path) -> None:
    """Guarantee: where f = 0 a rule of one update is that update; rules that need more are refused before."""
    alone = ("aggregation.updates_per_round=1", "robust.attackers_max=0")
    events = list(run_and_replay(project, f"aggregation.rule={rule}", *alone))
    assert max(event.version for event in events if isinstance(event, ModelPublished)) == 4
