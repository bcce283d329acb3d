"""Read models: what the console shows of a task is a fold over the journals."""

from __future__ import annotations

import msgspec
import pytest

from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from schemas.events import (
    CheckinsDeclined,
    JournalEvent,
    LeaseClosed,
    Mechanism,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    TaskHalted,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    VersionEvaluated,
)
from schemas.journal import JournalPosition
from schemas.policy.metrics import MetricSums
from streams.journals import JournalBroken
from streams.memory import MemoryLog
from tests.worlds.builders import (
    batch,
    lease_granted,
    lease_id,
    model_published,
    round_proposed,
    spending,
    task_paused,
    update_admitted,
)
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, created, memory_log, policy

MECHANISM = Mechanism(
    noise_multiplier=1.0, clip_steps=65_536, weight_max=1 << 20, sigma=1, sampler="ladder-2", key_id=bytes(8)
)


PERSON = "5" * 32


def admitted(number: int, round_id: int = 0, *, device: str = "d1", staleness: int = 0) -> UpdateAdmitted:
    """Update `number` of a device."""
    return update_admitted(device, round=round_id, update=lease_id(number), staleness=staleness)


def published(version: int, round_id: int | None) -> ModelPublished:
    """A version."""
    return model_published(version, round=round_id)


def proposed(round_id: int) -> RoundProposed:
    """A full round of three."""
    return round_proposed(round_id, participations_max=2)


ROUND: tuple[JournalEvent, ...] = (
    Noticed(fact=created(spent_before=(spending(4),))),
    published(0, None),
    RoundOpened(task=TASK, round=0),
    admitted(1, device="d1"),
    admitted(2, device="d2", staleness=2),
    UpdateRefused(task=TASK, update=f"{9:032x}", device="d3", reason="stale", deadline_ms=0),
    admitted(3, device="d1", staleness=1),
    proposed(0),
    RoundOpened(task=TASK, round=1),
    admitted(4, 1, device="d1"),
)


def read(log: MemoryLog) -> TaskView:
    """The view of the task, from the first record on."""
    return read_all(log).view(TASK)


def read_all(log: MemoryLog) -> TaskViews:
    """Every view, from the first record on."""
    views = TaskViews()
    with Follower(log, views, partitions=[PLACE]) as follower:
        follower.catch_up()
    return views


def test_whoever_has_two_devices_takes_part_as_one() -> None:
    """Participations are those that a cap is about: of a subject where its devices are enrolled, and else of a key."""
    log = memory_log()
    journal = Journal(log, "rounds")
    for event in ROUND:
        journal.batch(event)
    for number, device in enumerate(("d7", "d8", "d9", "d7")):
        journal.batch(msgspec.structs.replace(admitted(70 + number, round_id=1, device=device), subject=PERSON))
    assert read(log).participations_max == 4


def test_a_round_from_its_opening_to_its_version() -> None:
    """Buffer, pending rounds, staleness, participations and versions are what the journal says at that point."""
    log = memory_log()
    journal = Journal(log, "rounds")
    for event in ROUND:
        journal.batch(event)
    view = read(log)
    assert (view.status, view.version, view.round, view.buffer_fill, view.buffer_size) == ("running", 0, 1, 1, 3)
    assert (view.admitted, dict(view.refused), view.staleness_mean, view.staleness_max) == (4, {"stale": 1}, 0.75, 2)
    assert (view.rounds_pending, view.participations_max) == ({0}, 3)
    journal.batch(published(1, 0), TaskHalted(task=TASK, reason="versions_max", version=1))
    view = read(log)
    assert (view.rounds_pending, view.version, view.status) == (set(), 1, "halted: versions_max")


def test_what_devices_report_belongs_to_their_version() -> None:
    """A view has the devices' metrics by name once their round is a version; those of a round given up are dropped."""
    log = memory_log()
    journal = Journal(log, "rounds")
    rules = policy(evaluation={"report": ["loss", "accuracy"]})
    journal.batch(Noticed(fact=created(policy=rules)), published(0, None))
    sums = MetricSums(sums=(3 * 65_536, 65_536), samples=2)
    journal.batch(round_proposed(0, metrics=sums), round_proposed(1, metrics=sums))
    assert read(log).device_metrics == {}
    journal.batch(
        published(1, 0), RoundAbandoned(task=TASK, round=1, members_root=bytes(32), members=3, reason="closed")
    )
    view = read(log)
    assert (view.device_metrics, list(view.reported), view.reports) == ({"loss": 1.5, "accuracy": 0.5}, [1], {})


def test_a_version_keeps_what_its_round_was_made_of() -> None:
    """By version once the round is one; a round given up leaves nothing."""
    log = memory_log()
    journal = Journal(log, "rounds")
    for event in ROUND:
        journal.batch(event)
    assert read(log).makeup is None
    journal.batch(published(1, 0))
    view = read(log)
    assert view.makeup is not None
    assert (view.makeup.members, list(view.makeups), set(view.filling)) == (3, [1], {1})
    journal.batch(RoundAbandoned(task=TASK, round=1, members_root=bytes(32), members=1, reason="closed"))
    assert read(log).filling == {}


def test_the_view_is_the_same_at_any_pace() -> None:
    """A follower that saw every record when it came and one that read them later show the same."""
    log = memory_log()
    journal = Journal(log, "rounds")
    views = TaskViews()
    with Follower(log, views, partitions=[PLACE]) as live:
        for event in ROUND:
            journal.batch(event)
            live.poll(0)
        assert views.view(TASK) == read(log)


def test_leases_are_in_flight_until_they_are_closed() -> None:
    """A lease counts from its grant to its end, whatever that is."""
    log = memory_log()
    leases = [lease_granted(f"d{n}") for n in (1, 2, 3)]
    closed = LeaseClosed(task=TASK, lease=leases[0].lease, device="d1", outcome="expired", round=None)
    Journal(log, "selections").batch(*leases, closed, CheckinsDeclined(task=TASK, counts={"no_slot": 7}))
    view = read(log)
    assert (len(view.leases), view.leases_granted, view.leases_expired) == (2, 3, 1)
    assert view.declined == {"no_slot": 7}


def test_privacy_and_accuracy_come_from_ledger_and_evaluations() -> None:
    """rho and epsilon are the newest charge's; the accuracy is the newest version's."""
    log = memory_log()
    append(log, "tasks", created(policy=policy(privacy={"noise_multiplier": 1.0, "rho_max": 9.0})))
    ledger = Journal(log, "ledger")
    for number in (1, 2):
        charge = RoundCharged(
            task=TASK,
            round=number,
            mechanism=MECHANISM,
            participations_max=number,
            rho_total=number / 2,
            epsilon=float(number),
            delta=1e-5,
        )
        ledger.batch(charge)
    for version, accuracy in ((1, 0.5), (2, 0.75)):
        metrics = {"loss": 1.0, "accuracy": accuracy}
        append(log, "evaluations", VersionEvaluated(task=TASK, version=version, metrics=metrics, samples=9, cohort=""))
    view = read(log)
    assert (view.rho, view.epsilon, view.delta, view.metric, view.curve()) == (1.0, 2.0, 1e-5, 0.75, [0.5, 0.75])
    assert view.status == "created"


def test_pause_shows_before_any_actor_has_read_it() -> None:
    """What an operator said is visible at once."""
    log = memory_log()
    append(log, "tasks", created())
    append(log, "tasks", task_paused())
    assert read(log).status == "paused"


def test_a_zombies_batch_counts_for_nothing() -> None:
    """A batch under a superseded claim is skipped, as every reader of the journal does."""
    log = memory_log()
    journal = Journal(log, "rounds")
    first_claim = journal.chain.at.claim
    journal.batch(*ROUND[:3])
    journal.claim()
    journal.batch(admitted(8), claim=first_claim)
    assert (read(log).admitted, journal.chain.zombies) == (0, 1)


def test_a_broken_chain_is_named_with_its_place() -> None:
    """The console shows nothing that rests on a record off the chain."""
    log = memory_log()
    journal = Journal(log, "rounds")
    journal.commit(b"junk", follow=False)
    offset = journal.write(batch(JournalPosition(claim=9_999)), follow=False)
    with pytest.raises(JournalBroken, match=rf"^rounds\[{PLACE}\]@{offset}: "):
        read(log)


def test_junk_in_a_plain_topic_is_counted() -> None:
    """A record of `tasks` that nobody can read stops nobody."""
    log = memory_log()
    append(log, "tasks", b"\xff\xff")
    append(log, "tasks", created())
    views = read_all(log)
    assert (views.unreadable, list(views.tasks)) == (1, [TASK])


def test_what_names_no_task_makes_no_view() -> None:
    """Repeats count in their task's view; what asked for a task that does not exist is counted beside the views."""
    log = memory_log()
    append(log, "tasks", created())
    Journal(log, "selections").batch(CheckinsDeclined(task=None, counts={"unknown_task": 9}))
    repeats = UpdatesDeclined(task=TASK, counts={"duplicate": 2, "expired": 1})
    Journal(log, "rounds").batch(repeats, UpdatesDeclined(task=None, counts={"unknown_task": 4}))
    views = read_all(log)
    assert list(views.tasks) == [TASK]
    assert views.unknown == {"unknown_task": 13}
    assert views.view(TASK).refused == {"duplicate": 2, "expired": 1}
