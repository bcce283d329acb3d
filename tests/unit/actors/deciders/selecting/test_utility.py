"""Oort's rule on what a log holds: useful devices come first, unknown ones are tried, and a replay draws the same."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.decider import digest
from actors.deciders.selecting.utility import SCORE_MAX, UNKNOWN, Utilities, compute_score
from actors.deciders.selector import SELECTOR
from schemas.events import CheckinsDeclined, JournalEvent, LeaseClosed, LeaseGranted, Noticed
from schemas.policy import Policy, Selection
from schemas.policy.metrics import METRIC_ONE
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

DEVICES, SLOTS, RETRY_MS = 20, 5, 1_000
TICKETS = st.integers(0, (1 << 64) - 1)
VALUES = st.tuples(st.integers(-METRIC_ONE, 1 << 31), st.integers(1, 1 << 16), st.integers(1, 1 << 30))


def rules(**wanted: object) -> Policy:
    """Synchronous rounds that prefer useful devices; a fifth of the slots explores."""
    selection = {
        "devices_expected": DEVICES,
        "concurrency": SLOTS,
        "retry_after_s": RETRY_MS / 1000,
        "rule": "utility",
        **wanted,
    }
    return policy(
        selection=selection,
        aggregation={"updates_per_round": SLOTS},
        staleness={"max_versions": 0},
        evaluation={"report": ["loss"]},
        stop={"versions_max": 100},
    )


@given(VALUES, VALUES, st.sampled_from([0, 1_000, 60_000]))
def test_a_score_grows_with_loss_and_examples_and_falls_with_time(
    one: tuple[int, int, int], other: tuple[int, int, int], fast_ms: int
) -> None:
    """Whoever is not worse in any of the three has no lower score; it always fits into a byte, and says something."""
    low = compute_score(one[0], one[1], took_ms=one[2], fast_ms=fast_ms)
    loss, samples, took_ms = max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2])
    high = compute_score(loss, samples, took_ms=took_ms, fast_ms=fast_ms)
    assert UNKNOWN < low <= high <= SCORE_MAX


def test_four_steps_are_a_doubling_and_slowness_counts_by_its_square() -> None:
    """Oort's eq. 2 on a scale of quarter octaves: twice the loss or examples is four steps, twice the time eight."""
    plain = compute_score(METRIC_ONE, 64, took_ms=1_000, fast_ms=1_000)
    assert compute_score(2 * METRIC_ONE, 64, took_ms=1_000, fast_ms=1_000) == plain + 4
    assert compute_score(METRIC_ONE, 128, took_ms=500, fast_ms=1_000) == plain + 4
    assert compute_score(METRIC_ONE, 64, took_ms=2_000, fast_ms=1_000) == plain - 8
    assert compute_score(METRIC_ONE, 64, took_ms=9_000, fast_ms=0) == plain


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, SCORE_MAX)), min_size=1, max_size=60), TICKETS, TICKETS)
def test_a_higher_score_is_called_earlier(notes: list[tuple[int, int]], one: int, other: int) -> None:
    """Whatever the tickets, which decide among equals alone; counts and scores agree, a byte a device."""
    found = Utilities()
    for place, score in notes:
        found.note(place, score)
    known = {place: found.find(place) for place, _ in notes}
    assert Counter(known.values()) == Counter({s: n for s, n in enumerate(found.counts) if n})
    assert len(found.scores) == max(known) + 1
    for a, b in zip(known, reversed(known), strict=True):
        first = found.rank(a, one, device=None, round_id=0)
        second = found.rank(b, other, device=None, round_id=0)
        assert 0 <= first < 1 << 64
        if known[a] > known[b]:
            assert first <= second


@given(st.integers(0, DEVICES + 5), st.floats(0, 1))
def test_the_slots_are_shared_out(known: int, exploration: float) -> None:
    """Those with a score and those without have all slots together, and each that is there has a chance."""
    found = Utilities()
    for place in range(known):
        found.note(place, 7)
    wanted = Selection(devices_expected=DEVICES, concurrency=SLOTS, rule="utility", exploration=exploration)
    best, group = found.find_group(0 if known else None, wanted=wanted)
    fresh, unknown = found.find_group(None, wanted=wanted)
    assert unknown >= 1
    if known:
        assert best + fresh == SLOTS
        assert (best, group) == (min(best, known), known)
        assert known < SLOTS or best >= SLOTS - -(-exploration * SLOTS // 1)
    else:
        assert fresh == SLOTS


class Cohorts:
    """The selector, and devices of which each trains at once with a loss of its own; the journal is kept."""

    def __init__(self, losses: list[float], wanted: Policy) -> None:
        self.losses, self.round, self.journal = losses, 0, list[tuple[int, JournalEvent]]()
        self.selector = given_history(SELECTOR)
        self._say(Noticed(fact=task_created(wanted)), Noticed(fact=model_published(0)))

    def _say(self, *events: JournalEvent) -> None:
        self.selector.given(*events)
        self.journal += [(self.selector.time_ms, event) for event in events]

    def _tell(self, fact: object) -> list[JournalEvent]:
        caused = self.selector.when(fact).caused
        self.journal += [(self.selector.time_ms, event) for event in caused]
        return caused

    def draw(self) -> dict[int, LeaseGranted]:
        """A round's cohort: everybody asks a few times until the last ticket is called."""
        taken: dict[int, LeaseGranted] = {}
        order = list(range(len(self.losses)))
        for turn in range(6):
            random.Random(f"{self.round} {turn}").shuffle(order)
            for number in order:
                checkin = device_checked_in(f"d{number}", sent_ms=self.selector.time_ms + number + 1)
                for event in self._tell(checkin):
                    if isinstance(event, LeaseGranted):
                        taken[number] = event
            self.selector.at(self.selector.time_ms + RETRY_MS // 5)
        return taken

    def finish(self, taken: dict[int, LeaseGranted]) -> None:
        """All of them are admitted, and the next version begins."""
        for number, lease in taken.items():
            loss = round(self.losses[number] * METRIC_ONE)
            admitted = update_admitted(lease.device, update=lease.lease, round=self.round, metrics=(loss,), samples=10)
            [closed] = self._tell(admitted)
            assert isinstance(closed, LeaseClosed)
            assert (closed.loss, closed.samples) == (loss, 10)
        self._tell(round_proposed(self.round))
        self.round += 1
        self._tell(model_published(self.round, round=self.round - 1))


def _count(cohorts: Cohorts, rounds: int) -> Counter[int]:
    taken: Counter[int] = Counter()
    for _ in range(rounds):
        drawn = cohorts.draw()
        assert len(drawn) == SLOTS
        taken.update(drawn.keys())
        cohorts.finish(drawn)
    return taken


def test_useful_devices_are_in_more_rounds_and_every_device_in_some() -> None:
    """Four devices learn far more than the others: they are taken most, and nobody is forgotten."""
    losses = [8.0 if number < 4 else 0.01 for number in range(DEVICES)]
    taken = _count(Cohorts(losses, rules()), 40)
    assert set(taken) == set(range(DEVICES))
    assert min(taken[number] for number in range(4)) > max(taken[number] for number in range(4, DEVICES))


@settings(max_examples=10)
@given(st.lists(st.floats(0, 50), min_size=SLOTS, max_size=DEVICES))
def test_a_replay_of_the_journal_gives_the_same_state(losses: list[float]) -> None:
    """Losses and times come from the selector's own journal, and from nothing else."""
    cohorts = Cohorts(losses, rules(fast_s=0.5))
    for _ in range(3):
        cohorts.finish(cohorts.draw())
    replayed = SELECTOR.initial()
    for time_ms, event in cohorts.journal:
        SELECTOR.evolve(replayed, event, time_ms)
    assert digest(replayed) == digest(cohorts.selector.state)
    assert sum(replayed.tasks[TASK].utilities.counts) == len(replayed.tasks[TASK].utilities.scores.replace(b"\0", b""))


def test_without_the_rule_nothing_is_kept() -> None:
    """A close says nothing of a report that nobody looks at."""
    plain = policy(evaluation={"report": ["loss"]})
    granted = given_history(SELECTOR, Noticed(fact=task_created(plain)), Noticed(fact=model_published(0)))
    [lease] = granted.when(device_checked_in("a")).caused
    assert isinstance(lease, LeaseGranted)
    [closed] = granted.when(update_admitted("a", update=lease.lease, metrics=(9,))).caused
    assert isinstance(closed, LeaseClosed)
    assert (closed.loss, closed.samples) == (None, None)
    assert not granted.state.tasks[TASK].utilities.counts


def test_a_device_at_its_cap_gets_no_other_lease() -> None:
    """Without privacy too: the policy says how often one device trains."""
    capped = policy(selection={"participations_max": 1})
    situation = given_history(SELECTOR, Noticed(fact=task_created(capped)), Noticed(fact=model_published(0)))
    [lease] = situation.when(device_checked_in("a")).caused
    assert isinstance(lease, LeaseGranted)
    situation.when(update_admitted("a", update=lease.lease)).when(round_proposed(0))
    situation.when(model_published(1))
    situation.when(device_checked_in("a", sent_ms=2)).then(CheckinsDeclined(task=TASK, counts={"participations": 1}))
