"""What Prometheus sees: counters count what is new, gauges show where things stand, replayed or not."""

from __future__ import annotations

import random
import socket

import pytest

from actors.hosts.metrics import ActorMetrics, MetricsUnserved, PrometheusInstruments, ShardMetrics, WorkerMetrics
from actors.wiring import AGGREGATOR_ROLE, ROLES, SELECTOR_ROLE
from schemas.events import DefectFound, InputsDropped, JournalEvent, LeaseClosed, Noticed, RoundOpened, TaskHalted
from schemas.journal import Decision
from schemas.policy import WEIGHT_ONE
from schemas.policy.metrics import METRIC_ONE, Fidelity
from schemas.topics import CHECKINS
from streams.retry import Outage
from tests.trials.floods.attacker import RULES, Attacker
from tests.worlds.builders import round_proposed, task_created, update_admitted
from tests.worlds.drift.asking import drift_found, drift_policy
from tests.worlds.federation import Federation
from tests.worlds.quarantine.tasks import (
    PARAMETERS,
    device_quarantined,
    draw_deltas,
    members_compared,
    quarantine_lifted,
    watched_policy,
)

TASK = {"task": "digits"}
OPENED = RoundOpened(task="digits", round=0)


def decision(*events: JournalEvent, time_ms: int = 1_000) -> Decision:
    """Of one input."""
    return Decision(topic="updates", offset=1, time_ms=time_ms, events=events)


def test_counters_count_what_is_new() -> None:
    """Read back from the journal an update was counted by the worker before; the gauge shows it again."""
    instruments = PrometheusInstruments()
    metrics, registry = ActorMetrics(AGGREGATOR_ROLE, instruments), instruments.registry
    metrics.note_replayed(decision(OPENED, update_admitted("a")))
    assert registry.get_sample_value("fedlog_updates_admitted_total", TASK) is None
    metrics.note_decided(decision(update_admitted("b")), 1)
    assert registry.get_sample_value("fedlog_updates_admitted_total", TASK) == 1
    assert registry.get_sample_value("fedlog_buffer_fill", TASK) == 2


def test_a_round_is_measured_from_its_own_opening() -> None:
    """The decision that proposes a round opens the next one, which must not be taken for its beginning."""
    instruments = PrometheusInstruments()
    metrics = ActorMetrics(AGGREGATOR_ROLE, instruments)
    metrics.note_replayed(decision(OPENED, time_ms=1_000))
    metrics.note_decided(decision(round_proposed(), RoundOpened(task="digits", round=1), time_ms=31_000), 1)
    assert instruments.registry.get_sample_value("fedlog_round_seconds_sum", TASK) == 30


def test_clips_codec_loss_and_effective_weights_are_shown() -> None:
    """Clips and losses as they come, the effective number of updates with each proposal, of its own round alone."""
    instruments = PrometheusInstruments()
    metrics, registry = ActorMetrics(AGGREGATOR_ROLE, instruments), instruments.registry
    members = [
        update_admitted("a", fidelity=Fidelity(kept=1, lost=METRIC_ONE)),
        update_admitted("b", weight=3 * WEIGHT_ONE),
    ]
    metrics.note_replayed(decision(OPENED, update_admitted("z"), round_proposed(0)))
    metrics.note_decided(decision(RoundOpened(task="digits", round=1), *members), 1)
    assert registry.get_sample_value("fedlog_updates_clipped_total", TASK) == 1
    assert registry.get_sample_value("fedlog_codec_loss_ratio_sum", TASK) == 1.0
    metrics.note_decided(decision(round_proposed(1)), 1)
    assert registry.get_sample_value("fedlog_updates_effective", TASK) == 1.6


def test_a_quarantine_is_a_rise_and_lifted_a_fall() -> None:
    """From zero on, so that the first one wakes somebody, replayed or not; who compares nobody has no series."""
    instruments = PrometheusInstruments()
    metrics, registry = ActorMetrics(AGGREGATOR_ROLE, instruments), instruments.registry
    metrics.note_replayed(decision(Noticed(fact=task_created())))
    assert registry.get_sample_value("fedlog_devices_quarantined", TASK) is None
    metrics.note_replayed(decision(Noticed(fact=task_created(watched_policy()))))
    assert registry.get_sample_value("fedlog_devices_quarantined", TASK) == 0
    member = update_admitted("a")
    metrics.note_replayed(decision(device_quarantined("a")))
    metrics.note_decided(decision(members_compared(1, [member], [member.device]), device_quarantined("b")), 1)
    assert registry.get_sample_value("fedlog_devices_quarantined", TASK) == 2
    assert registry.get_sample_value("fedlog_updates_apart_total", TASK) == 1
    metrics.note_decided(decision(Noticed(fact=quarantine_lifted("a"))), 2)
    assert registry.get_sample_value("fedlog_devices_quarantined", TASK) == 1
    world = Federation(watched_policy(), parameters=PARAMETERS)
    for seed in range(2):
        world.round_of(draw_deltas(seed))
    metrics.note_restored(world.actors["aggregator"].state)
    assert registry.get_sample_value("fedlog_devices_quarantined", TASK) == 1


@pytest.mark.parametrize("is_asked_first", [False, True])
def test_drift_of_a_task_that_is_over_stands_until_the_question_is_asked_anew(*, is_asked_first: bool) -> None:
    """Guarantee: in bounds while it stands, also of a last version; 0 once it is back, or another task took over."""
    instruments = PrometheusInstruments()
    metrics, registry = ActorMetrics(AGGREGATOR_ROLE, instruments), instruments.registry
    labels = {**TASK, "kind": "drift", "cohort": "", "measure": "psi"}
    metrics.note_replayed(decision(Noticed(fact=task_created(drift_policy())), drift_found(value=300_000)))
    assert registry.get_sample_value("fedlog_drift", labels) == 1.5
    anew = Noticed(fact=task_created(drift_policy(drift={"of": "digits", "version": -1}), task="digits.next"))
    halted = TaskHalted(task="digits", reason="versions", version=3)
    first, second = (anew, halted) if is_asked_first else (halted, anew)
    metrics.note_decided(decision(first), 1)
    assert registry.get_sample_value("fedlog_drift", labels) == 1.5
    metrics.note_decided(decision(second), 2)
    assert registry.get_sample_value("fedlog_drift", labels) == 0


def test_the_selector_counts_leases() -> None:
    """By what became of them."""
    instruments = PrometheusInstruments()
    closed = LeaseClosed(task="digits", lease="l", device="a", outcome="expired", round=None)
    ActorMetrics(SELECTOR_ROLE, instruments).note_decided(decision(closed), 1)
    labels = {**TASK, "event": "expired"}
    assert instruments.registry.get_sample_value("fedlog_leases_total", labels) == 1


@pytest.mark.parametrize("name", ROLES)
def test_every_actor_counts_junk_and_defects(name: str) -> None:
    """These are no role's own."""
    instruments = PrometheusInstruments()
    dropped = InputsDropped(topic="updates", count=3, first_offset=1, last_offset=3)
    failed = DefectFound(topic="updates", count=2, first_offset=4, last_offset=6, number=0, error="ValueError")
    ActorMetrics(ROLES[name], instruments).note_decided(decision(dropped, failed), 1)
    labels = {"topic": "updates"}
    assert instruments.registry.get_sample_value("fedlog_inputs_dropped_total", labels) == 3
    assert instruments.registry.get_sample_value("fedlog_defects_total", labels) == 2


def test_a_worker_shows_whether_its_broker_answers() -> None:
    """At the moment of the question, not of the last decision."""
    metrics, outage = WorkerMetrics(), Outage("nowhere:1")
    metrics.watch(outage)
    outage.note_answer()
    assert metrics.instruments.registry.get_sample_value("fedlog_broker_available") == 1
    outage.note_silence("gone")
    assert metrics.instruments.registry.get_sample_value("fedlog_broker_available") == 0


def test_a_shard_worker_adds_up_its_results() -> None:
    """Each call brings what is new since the last one."""
    instruments = PrometheusInstruments()
    metrics = ShardMetrics(instruments)
    for _ in range(2):
        metrics.count(3, 1)
    assert instruments.registry.get_sample_value("fedlog_shard_bodies_measured_total") == 6
    assert instruments.registry.get_sample_value("fedlog_shard_partials_stored_total") == 2


def test_a_port_that_is_taken_is_named() -> None:
    """Two workers on one port, or an address of another machine: one line says which, and what would do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsUnserved, match=rf"127\.0\.0\.1:{port}: .*--metrics-port"):
            WorkerMetrics().serve("127.0.0.1", port)
    with pytest.raises(MetricsUnserved, match="192\\.0\\.2\\.1:0"):
        WorkerMetrics().serve("192.0.2.1", 0)


def test_strangers_make_no_series() -> None:
    """A label costs memory until the process ends: tasks that exist have one, and nothing that a stranger invents."""
    world = Federation(RULES)
    attacker = Attacker(world, random.Random(1))
    instruments = {name: PrometheusInstruments() for name in ROLES}
    for name, role in ROLES.items():
        world.actors[name]._observers = (ActorMetrics(role, instruments[name]),)

    def count_series() -> int:
        return sum(len(m.samples) for each in instruments.values() for m in each.registry.collect())

    series = []
    for _ in range(2):
        for flood in (floods := attacker.floods()).values():
            for _ in range(20):
                world.append(flood.topic, flood.make())
        world.settle()
        series.append(count_series())
    assert series[0] == series[1]
    declined = {"task": "", "reason": "unknown_task"}
    named = [
        flood.messages for flood in floods.values() if (flood.topic, flood.counted) == (CHECKINS.name, "unknown_task")
    ]
    found = instruments["selector"].registry.get_sample_value("fedlog_checkins_declined_total", declined)
    assert found == 40 * sum(named) > 40
    nowhere = {"population": "", "reason": "no_enrolment"}
    assert instruments["registrar"].registry.get_sample_value("fedlog_enrolments_declined_total", nowhere) == 40
    assert instruments["aggregator"].registry.get_sample_value("fedlog_updates_refused_total", declined) == 40
