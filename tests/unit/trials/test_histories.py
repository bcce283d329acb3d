"""Law 11: what a release wrote, every later one folds to the same states and decides to the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors.deciders.decider import digest
from actors.effects.published import Statements, state_steps, state_versions
from actors.wiring import ROLES
from ops.audit.replay import Anchor, Audit
from ops.audit.verification import Verification
from schemas.journal import Chain
from schemas.published import parse_checkpoint, sign_statement
from schemas.topics import PUBLISHED
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.trials.histories.history import FOLDER, History, Retelling, record, unpacked

HISTORIES = sorted(FOLDER.glob("*.tar"))
BYTES_MAX = 700_000


@pytest.fixture(params=HISTORIES, ids=lambda path: path.stem)
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """Each recorded history in turn."""
    return unpacked(request.param, tmp_path)


def test_there_is_a_history() -> None:
    """At least one, and each small enough to be kept for ever."""
    assert HISTORIES
    assert [path.name for path in HISTORIES if path.stat().st_size > BYTES_MAX] == []


@pytest.mark.parametrize("name", ROLES)
def test_each_actor_decides_its_history_again(history: History, name: str) -> None:
    """On the recorded inputs in the recorded order: the same events, byte for byte, and the recorded digests."""
    retelling = Retelling(history, name)
    retelling.run()
    assert retelling.faults == []
    assert digest(retelling.state).hex() == history.states[ROLES[name].journal]
    assert retelling.decisions > 3
    # Some stories are too short for one.
    assert retelling.digests > 0 or name in ("registrar", "rollout")


@pytest.mark.parametrize("name", ROLES)
def test_a_fold_alone_gives_the_recorded_state(history: History, name: str) -> None:
    """The journal is enough: its events, without any decision, give the digest recorded at the end."""
    retelling, chain = Retelling(history, name), Chain(ROLES[name].journal, history.partition)
    for entry in scan(history.log, TopicPartition(ROLES[name].journal, history.partition)):
        batch = chain.follow(entry.offset, entry.value or b"")
        for decision in batch.decisions if batch is not None else ():
            for event in decision.events:
                retelling.decider.evolve(retelling.state, event, decision.time_ms)
    assert digest(retelling.state).hex() == history.states[ROLES[name].journal]


def _anchor(history: History) -> Anchor:
    return Anchor(operator=history.key.public_key, noise=history.key.find_noise)


def test_a_history_verifies_and_replays(history: History) -> None:
    """Chains, announcements and the laws hold, and every sum and model is made again from the bodies."""
    faults = Verification(history.log, history.partition, operator=history.key.public_key).check()
    assert [str(fault) for fault in faults] == []
    assert check(history.log, history.partition, settled=True, defects=True) == []
    found = Audit(history.log, history.partition, anchor=_anchor(history), full=True).run()
    assert (found.verdict, found.unchecked) == ("identical", [])
    assert found.models > 5


@pytest.mark.parametrize(("name", "state"), [("aggregator", state_versions), ("rollout", state_steps)])
def test_the_announcements_are_made_again(history: History, name: str, state: Callable[[int], Statements]) -> None:
    """`published` follows from the journals and their keys, signatures included, in every later release."""
    statements, signer = state(history.partition), history.role_key(name).signer
    chain, said = Chain(statements.topic, history.partition), []
    for entry in scan(history.log, TopicPartition(statements.topic, history.partition)):
        batch = chain.follow(entry.offset, entry.value or b"")
        for decision in batch.decisions if batch is not None else ():
            for event in filter(statements.has, decision.events):
                statement = statements.make(event, chain.at, time_ms=decision.time_ms)
                said.append(sign_statement(statement, signer.key, certificate=signer.certificate))
    found = [entry.value for entry in scan(history.log, TopicPartition(PUBLISHED.name, history.partition))]
    mine = [value for value in found if parse_checkpoint(value or b"").heads[0].topic == statements.topic]
    assert (said, len(said) > 5) == (mine, True)


def test_another_decision_is_noticed(history: History) -> None:
    """The test can fail: a decider that decides otherwise, or folds otherwise, differs from the history."""
    retelling = Retelling(history, "aggregator")
    honest = retelling.decider

    def decide(state, fact, time_ms):
        events = honest.decide(state, fact, time_ms)
        return [msgspec.structs.replace(e, weight=e.weight + 1) if hasattr(e, "clip_scale") else e for e in events]

    retelling.decider = dataclasses.replace(honest, decide=decide)
    retelling.run()
    assert any("UpdateAdmitted" in fault for fault in retelling.faults)
    assert any("another digest" in fault for fault in retelling.faults)


def test_a_recording_is_a_history(tmp_path: Path) -> None:
    """`make history` records with the code of today what the same code then finds right."""
    (tmp_path / "told").mkdir()
    record(tmp_path / "today.tar", tmp_path / "told")
    history = unpacked(tmp_path / "today.tar", tmp_path / "unpacked")
    for name in ROLES:
        retelling = Retelling(history, name)
        retelling.run()
        assert (retelling.faults, digest(retelling.state).hex()) == ([], history.states[ROLES[name].journal])
