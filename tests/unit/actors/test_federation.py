"""The story, end to end over the in-memory log: lease, update, round, charge, version, and what stops it."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from ops.audit.replay import Audit
from schemas.canonical import encode
from schemas.events import (
    BudgetExhausted,
    Declined,
    InputsDropped,
    ModelPublished,
    Outcome,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    TaskHalted,
    Tick,
    UpdateAdmitted,
)
from schemas.identifiers import BodyRef
from schemas.topics import BODIES, LEDGER, MODELS, PUBLISHED, ROUNDS, SHARDS, UPDATES
from streams.bodies import store
from streams.log import LogUnavailable, TopicPartition, WriterFenced, scan
from tests.judges.lawcheck import check
from tests.worlds.builders import ANCHOR, device_ids, policy, signed, update_submitted
from tests.worlds.federation import Federation, find_refusals

ONES = np.ones(4, np.float32)


def _deltas(*names: str, value: float = 1.0) -> dict[str, np.ndarray]:
    return dict.fromkeys(names, ONES * value)


def test_three_updates_make_a_version() -> None:
    """K admitted updates become one round, one sum, one model, one public announcement."""
    world = Federation(policy())
    world.round_of({"a": ONES, "b": ONES * 2, "c": ONES * 3})
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]
    state = world.actors["aggregator"].state.tasks[world.task]
    assert world.actors["aggregator"]._effects._releases.models._models[world.task].model == pytest.approx([2, 2, 2, 2])
    assert (state.version, len(state.buffer.members)) == (1, 0)
    announced = list(scan(world.log, TopicPartition(PUBLISHED.name, world.partition)))
    assert len(announced) == 2
    assert {answer.outcome for answer in world.device("a").answers() if isinstance(answer, Outcome)} == {"admitted"}


def test_an_actor_that_dies_comes_back_with_its_buffer() -> None:
    """Law 1: the state is the fold of the journal, and the sum of the buffer follows from it and the bodies."""
    world = Federation(policy())
    world.round_of(_deltas("a", "b"))
    before = world.actors["aggregator"].state
    world.start("aggregator")
    assert world.actors["aggregator"].state == before
    world.round_of(_deltas("c", value=4.0))
    assert world.actors["aggregator"]._effects._releases.models._models[world.task].model == pytest.approx([2, 2, 2, 2])


def test_the_same_update_twice_counts_once() -> None:
    """Law 2: one lease, one admission; a repeat is an input with the outcome duplicate, and learns the first one."""
    world = Federation(policy())
    device = world.device("a")
    world.round_of(_deltas("a"))
    device.submit(ONES * 2, world.rules)
    world.settle()
    assert find_refusals(world) == ["duplicate"]
    outcomes = [answer for answer in device.answers() if isinstance(answer, Outcome)]
    assert [answer.outcome for answer in outcomes] == ["admitted", "admitted"]
    sent = scan(world.log, TopicPartition(UPDATES.name, world.partition))
    assert [answer.record_sha256 for answer in outcomes] == [sha256(record.value or b"").digest() for record in sent]


def test_an_update_is_remembered_while_others_come() -> None:
    """Law 2: a repeat is a duplicate also after the outcomes of others, and after its round was published."""
    world = Federation(policy())
    world.round_of(_deltas("a", "b", "c", "d"))
    world.device("a").submit(ONES, world.rules)
    world.settle()
    assert find_refusals(world) == ["duplicate"]


def test_a_device_is_told_what_the_journal_holds() -> None:
    """Law 3: an aggregator that dies at its commit has told nobody; the next one decides, and tells."""
    world = Federation(policy())
    device = world.device("a")
    device.check_in()
    world.settle()
    device.submit(ONES, world.rules)
    dying = world.actors["aggregator"]
    world.log.writer(f"aggregator.{world.partition}")
    with pytest.raises(WriterFenced):
        world.feed("aggregator")
    assert dying is world.actors["aggregator"]
    assert not [answer for answer in device.answers() if isinstance(answer, Outcome)]
    world.start("aggregator")
    world.settle()
    assert [answer.outcome for answer in device.answers() if isinstance(answer, Outcome)] == ["admitted"]


def test_pending_rounds_make_an_update_stale() -> None:
    """Staleness counts the newest version and the rounds that wait for their charge."""
    world = Federation(_private(rho_max=9.0))
    world.actors.pop("privacy")
    for name in "abcd":
        world.device(name).check_in()
    world.settle()
    for name in "abcd":
        world.device(name).submit(ONES, world.rules)
    world.settle()
    assert [event.staleness for event in world.events(ROUNDS.name, UpdateAdmitted)] == [0, 0, 0, 1]


def test_what_is_published_is_noisy() -> None:
    """Law 7: with privacy a version carries noise of the mechanism's size, also when every delta is zero."""
    world = Federation(_private(rho_max=9.0), parameters=400)
    world.round_of(dict.fromkeys("abc", np.zeros(400, np.float32)))
    model = world.actors["aggregator"]._effects._releases.models._models[world.task].model
    # sigma of the mean: z * clip / K, with z = 1, clip = 8, K = 3; its estimate from 400 draws is within 20 %.
    assert np.std(model) == pytest.approx(8 / 3, rel=0.2)


def test_junk_is_counted_with_its_offsets() -> None:
    """Law 9: what carries no valid lease is a count with first and last offset, and stops nobody."""
    world = Federation(policy())
    device = world.device("a")
    first = device.append(UPDATES.name, b"\x00 junk")
    device.append(UPDATES.name, b"")
    last = device.append(UPDATES.name, b"\xc1" * 100)
    world.settle()
    [dropped] = world.events(ROUNDS.name, InputsDropped)
    assert (dropped.count, dropped.first_offset, dropped.last_offset) == (3, first, last)
    world.round_of(_deltas("a", "b", "c"))
    assert world.events(ROUNDS.name, ModelPublished)[-1].version == 1


def test_a_device_is_once_in_a_round() -> None:
    """A device whose update is in the open round gets no lease until that round is full."""
    world = Federation(policy())
    world.round_of(_deltas("a"))
    world.device("a").check_in()
    world.settle()
    last = world.device("a").answers()[-1]
    assert isinstance(last, Declined)
    assert last.reason == "in_round"


def test_a_charge_comes_before_its_version() -> None:
    """Law 8: with privacy every version was charged first, and the charge covers the participations."""
    world = Federation(_private(rho_max=9.0))
    budget = world.actors.pop("privacy")
    world.round_of(_deltas("a", "b", "c"))
    assert world.events(ROUNDS.name, RoundProposed)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0]
    world.actors["privacy"] = budget
    world.settle()
    [charge] = world.events(LEDGER.name, RoundCharged)
    assert (charge.rho_total, charge.participations_max) == (0.5, 1)
    assert world.events(ROUNDS.name, ModelPublished)[-1].version == 1
    [proposed] = world.events(ROUNDS.name, RoundProposed)
    assert proposed.mechanism is not None
    assert proposed.mechanism.sigma == world.rules.sigma


def test_a_crash_refunds_nothing() -> None:
    """Law 8: after a death between a proposal and its charge the participations count as before, and are charged."""
    world = Federation(_private(rho_max=9.0))
    world.round_of(_deltas("a", "b", "c"))
    budget = world.actors.pop("privacy")
    world.round_of(_deltas("a", "b", "c"))
    world.start("aggregator")
    assert world.actors["aggregator"].state.tasks[world.task].participations == dict.fromkeys(device_ids("abc"), 2)
    world.actors["privacy"] = budget
    world.settle()
    world.round_of(_deltas("a", "b", "c"))
    assert [event.participations_max for event in world.events(LEDGER.name, RoundCharged)] == [1, 2, 3]


def test_participations_are_capped() -> None:
    """m = floor(2 z^2 rho_max) participations a device, then no lease; too few devices end the task."""
    world = Federation(_private(rho_max=1.0, devices=4, versions=2))
    for names in (("a", "b", "c"), ("a", "b", "d")):
        world.round_of(_deltas(*names))
    assert world.events(ROUNDS.name, TaskHalted)[-1].reason == "versions_max"
    assert not world.events(LEDGER.name, BudgetExhausted)


def test_a_bad_body_keeps_its_slot_with_privacy() -> None:
    """Law 9: with privacy nothing about the body may refuse; the update is admitted as a zero vector."""
    world = Federation(_private(rho_max=9.0))
    device = world.device("a")
    device.check_in()
    world.settle()
    device.submit(np.array([np.nan] * 4, np.float32), world.rules)
    world.settle()
    [admitted] = world.events(ROUNDS.name, UpdateAdmitted)
    assert (admitted.zeroed, admitted.clip_scale) == ("not_finite", 0)
    assert device.answers()[-1].outcome == "admitted"


def test_an_idle_task_halts() -> None:
    """No admission for the policy's idle time halts the task, and names what it drops."""
    world = Federation(policy(stop={"versions_max": 100, "idle_s": 60.0}))
    world.round_of(_deltas("a"))
    world.pass_ms(61_000)
    assert [type(event) for event in world.events(ROUNDS.name)][-2:] == [RoundAbandoned, TaskHalted]


def _private(*, rho_max: float, devices: int = 10, versions: int = 10) -> object:
    return policy(
        privacy={"noise_multiplier": 1.0, "rho_max": rho_max},
        selection={"devices_expected": devices},
        stop={"versions_max": versions},
    )


def test_bodies_are_deleted_when_nobody_needs_them() -> None:
    """A body goes once its round is published and the policy's hours have passed; one in an open round stays."""
    world = Federation(policy(retention={"body_hours": 1.0}, stop={"idle_s": 86_400.0}))
    at = TopicPartition(BODIES.name, world.partition)
    for name in ("a", "b", "c", "d"):
        world.device(name).check_in()
    world.settle()
    offsets = {}
    for name in ("a", "b", "c", "d"):
        world.device(name).submit(ONES, world.rules, inline=False)
        world.settle()
        offsets[name] = world.log.bounds(at).end
    aggregator = world.actors["aggregator"]
    aggregator.delete_unneeded()
    assert world.log.bounds(at).beginning == 0
    world.pass_ms(2 * 3_600_000)
    world.device("e").append(UPDATES.name, encode(Tick()))
    world.settle()
    aggregator.delete_unneeded()
    assert world.log.bounds(at).beginning == offsets["c"]
    world.start("aggregator")
    assert world.actors["aggregator"].state.tasks[world.task].buffer.members


@pytest.mark.parametrize(
    ("topic", "partition", "offsets"), [(BODIES.name, 5, ()), (BODIES.name, 5, (0,)), (SHARDS.name, 100, (0,))]
)
def test_an_invented_address_holds_nobody_up(topic: str, partition: int, offsets: tuple[int, ...]) -> None:
    """Law 9: with privacy a body that is nowhere keeps its slot; no actor ends or waits, and no other body stays."""
    private, stop = {"noise_multiplier": 1.0, "rho_max": 9.0}, {"idle_s": 86_400.0, "versions_max": 10}
    world = Federation(policy(privacy=private, retention={"body_hours": 1.0}, stop=stop))
    effects, at = world.actors["aggregator"]._effects, TopicPartition(BODIES.name, world.partition)
    asked = list[object]()
    effects._sums.partials.find_stored = lambda *given, **_: asked.append(given)  # type: ignore[method-assign,func-returns-value]
    store(world.log, at, data=b"nobody's", upload_id="nobody", codec="float32")
    ref = BodyRef(topic=topic, partition=partition, offsets=offsets, sha256=bytes(32), size=5, codec="float32")
    for device in map(world.device, "ab"):
        device.check_in()
        world.settle()
        submitted = update_submitted(device.granted().sealed, ref)
        device.append(UPDATES.name, signed(submitted, device.key))
    world.pass_ms(2 * 3_600_000)
    world.append(UPDATES.name, encode(Tick()))
    world.settle()
    world.actors["aggregator"].delete_unneeded()
    assert world.log.bounds(at).beginning == 1
    world.round_of({"c": ONES})
    assert [event.zeroed is None for event in world.events(ROUNDS.name, UpdateAdmitted)] == [False, False, True]
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]
    assert asked == []
    assert check(world.log, world.partition, settled=True) == []
    found = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert (found.verdict, found.unchecked) == ("identical", [])


def test_tombstones_outlive_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that were to leave while no broker answered leave when one does."""
    world = Federation(policy(retention={"models_kept": 2}, staleness={"max_versions": 0}))
    for turn in range(4):
        world.round_of(_deltas(*(f"{name}{turn}" for name in "abc")))
    aggregator = world.actors["aggregator"]

    def away(_: object) -> list[int]:
        raise LogUnavailable("no broker")

    with monkeypatch.context() as patched:
        patched.setattr(world.log, "append", away)
        with pytest.raises(LogUnavailable):
            aggregator.delete_unneeded()
    aggregator.delete_unneeded()
    place = TopicPartition(MODELS.name, world.partition)
    assert any(record.value is None for record in scan(world.log, place))


def test_models_leave_by_policy() -> None:
    """The newest `models_kept` models stay, older ones get tombstones; moments stay for two versions."""
    world = Federation(
        policy(optimizer={"rule": "momentum"}, staleness={"max_versions": 2}, retention={"models_kept": 3})
    )
    for turn in range(6):
        world.round_of(_deltas(*(f"{name}{turn}" for name in "abc")))
    world.actors["aggregator"].delete_unneeded()
    place = TopicPartition(MODELS.name, world.partition)
    gone = [record.key for record in scan(world.log, place) if record.value is None]
    published = world.events(ROUNDS.name, ModelPublished)
    keys = {record.offset: record.key for record in scan(world.log, place)}
    outdated = [event.model for event in published[:-3]] + [event.moments for event in published[1:-2]]
    assert sorted(gone) == sorted(keys[ref.offsets[0]] for ref in outdated)
