"""Synchronous rounds: who is in one is drawn, the same on every replay, and no more than its cohort trains for it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.selecting.drawing import compute_wait_ms, draw_ticket
from actors.deciders.selector import SELECTOR
from schemas.events import LeaseGranted, Noticed, RoundAbandoned, Tick, UpdateRefused
from tests.worlds.builders import (
    TASK,
    device_checked_in,
    model_published,
    policy,
    round_proposed,
    task_created,
    update_admitted,
)
from tests.worlds.specification import given as given_history

NAMES = [f"d{number}" for number in range(100)]
RULES = policy(
    selection={"devices_expected": 100, "concurrency": 10, "retry_after_s": 2.0}, staleness={"max_versions": 0}
)


def _tickets(round_id: int, model_sha256: bytes = bytes(32), **changes: object) -> dict[str, int]:
    created = task_created(RULES, **changes)
    return {
        device: draw_ticket(created, round_id=round_id, model_sha256=model_sha256, device=device) for device in NAMES
    }


def test_a_ticket_follows_from_the_log() -> None:
    """The same round draws the same tickets again; another round, model, task or deployment draws others."""
    drawn = _tickets(0)
    assert drawn == _tickets(0)
    others = [_tickets(1), _tickets(0, bytes([1] * 32)), _tickets(0, task="b"), _tickets(0, deployment=bytes(16))]
    assert all(drawn[device] != other[device] for other in others for device in NAMES)


def test_every_device_is_as_likely_as_any_other() -> None:
    """Over 300 rounds the ten lowest tickets of a hundred are each device's about as often, and nobody's always."""
    lowest: Counter[str] = Counter()
    for round_id in range(300):
        drawn = _tickets(round_id)
        lowest.update(sorted(NAMES, key=drawn.__getitem__)[:10])
    # Expected 30 with a standard deviation of 5.2; the draw is a hash, so that this is one number for ever.
    assert set(lowest) == set(NAMES)
    assert 13 <= min(lowest.values()) <= max(lowest.values()) <= 47


def test_tickets_are_called_in_their_order_within_one_retry() -> None:
    """Those that would fill the round are called at once, the last of all when every device has asked."""
    created = task_created(RULES)
    assert compute_wait_ms(created, 0) == 0
    assert compute_wait_ms(created, (1 << 64) // 10 - 1) == 0
    waits = [compute_wait_ms(created, ticket) for ticket in range(0, 1 << 64, 1 << 57)]
    assert waits == sorted(waits)
    assert waits[13] > 0
    assert compute_wait_ms(created, (1 << 64) - 1) == 2_000


def test_who_would_all_have_a_slot_waits_for_none() -> None:
    """A cohort as large as the population is not drawn: everybody is in it."""
    created = task_created(policy(selection={"devices_expected": 10, "concurrency": 10}))
    assert compute_wait_ms(created, (1 << 64) - 1) == 0


# --- whole rounds ---------------------------------------------------------------------------------------------------

K, COHORT, DEVICES, RETRY_MS = 3, 4, 12, 500
COHORTS = policy(
    aggregation={"updates_per_round": K},
    selection={"devices_expected": DEVICES, "concurrency": COHORT, "lease_s": 60.0, "retry_after_s": RETRY_MS / 1000},
    staleness={"max_versions": 0},
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("admit"), st.integers(0, COHORT)),
        st.tuples(st.just("refuse"), st.integers(0, COHORT)),
        st.tuples(st.just("pass"), st.sampled_from([1, 100, RETRY_MS, 70_000])),
        st.tuples(st.just("abandon"), st.just(0)),
    ),
    max_size=80,
)


class Rounds:
    """The selector, and an aggregator that a test plays: it admits what is of the newest version, K a round."""

    def __init__(self) -> None:
        created = task_created(COHORTS)
        self.selector = given_history(SELECTOR, Noticed(fact=created), Noticed(fact=model_published(0)))
        self.version = self.round = self.members = self.sent_ms = 0
        self.open: dict[str, LeaseGranted] = {}
        self.granted: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.admitted = 0

    def ask(self, device: int) -> bool:
        """A device checks in; whether it got a lease."""
        self.sent_ms += 1
        checkin = device_checked_in(f"d{device}", sent_ms=max(self.sent_ms, self.selector.time_ms))
        self.sent_ms = checkin.sent_ms
        for event in self.selector.when(checkin).caused:
            if isinstance(event, LeaseGranted):
                self.open[event.lease] = event
                self.granted[self.round] += 1
                return True
        return False

    def admit(self, number: int) -> None:
        """One lease in flight gives an update, which the round takes where it is not stale."""
        if not self.open:
            return
        lease = list(self.open.values())[number % len(self.open)]
        if lease.version != self.version:
            self.refuse(number)
            return
        del self.open[lease.lease]
        self.selector.when(update_admitted(lease.device, update=lease.lease, round=self.round))
        self.admitted += 1
        self.members += 1
        if self.members == K:
            self.selector.when(round_proposed(self.round))
            self.version, self.round, self.members = self.version + 1, self.round + 1, 0
            self.selector.when(model_published(self.version, round=self.round - 1))

    def refuse(self, number: int) -> None:
        """One lease in flight gives an update that is in no round."""
        if self.open:
            lease = self.open.pop(list(self.open)[number % len(self.open)])
            self._lose(lease)
            refused = UpdateRefused(
                task=TASK, update=lease.lease, device=lease.device, reason="body_malformed", deadline_ms=0
            )
            self.selector.when(refused)

    def pass_time(self, ms: int) -> None:
        """Log time passes, and leases expire by it."""
        self.selector.at(self.selector.time_ms + ms).when(Tick())
        for event in self.selector.caused:
            self._lose(self.open.pop(event.lease))  # type: ignore[attr-defined]

    def abandon(self, _: int) -> None:
        """The round was proposed and is given up; the next one starts from the same version."""
        self.selector.when(round_proposed(self.round))
        given_up = RoundAbandoned(task=TASK, round=self.round, members_root=bytes(32), members=K, reason="withheld")
        self.selector.when(given_up)
        # Leases in flight are of the version that the next round starts from, and so are slots of it.
        self.round, self.members = self.round + 1, 0
        self.granted[self.round] = sum(lease.version == self.version for lease in self.open.values())

    def _lose(self, lease: LeaseGranted) -> None:
        if lease.version == self.version:
            self.lost[self.round] += 1


@settings(max_examples=150)
@given(STEPS)
def test_a_round_grants_its_cohort_and_no_more(steps: list[tuple[str, int]]) -> None:
    """A synchronous round never grants more than K and the over-selection, but for leases that gave no update."""
    rounds = Rounds()
    for kind, number in steps:
        {"ask": rounds.ask, "admit": rounds.admit, "refuse": rounds.refuse, "pass": rounds.pass_time}.get(
            kind, rounds.abandon
        )(number)
        assert rounds.granted[rounds.round] <= COHORT + rounds.lost[rounds.round]


def test_a_round_fills_whoever_asks_first() -> None:
    """Once every device has asked again the cohort is whole, and who asks first is in no more rounds than others."""
    rounds = Rounds()
    taken: Counter[int] = Counter()
    for _ in range(40):
        # Everybody asks at once, then as the tickets are called, always in the same order.
        for _ in range(6):
            taken.update(device for device in range(DEVICES) if rounds.ask(device))
            rounds.pass_time(RETRY_MS // 5)
        assert rounds.granted[rounds.round] == COHORT
        while rounds.open:
            rounds.admit(0)
    assert rounds.admitted == 40 * K
    # 160 leases over twelve devices: 13.3 each, where order of arrival would give the first four 40.
    assert max(taken.values()) <= 22
