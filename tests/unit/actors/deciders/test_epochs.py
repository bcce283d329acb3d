"""When an epoch opens, until when updates under it count, and when its key may go: by events and log time alone."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from actors.deciders.aggregator_state import Rounds
from actors.deciders.epochs import GRACE_MS, EpochKeyGone, EpochMade, list_over, waits_for_time, wants_epoch
from schemas.events import EpochDestroyed, EpochOpened, RoundAbandoned, RoundOpened, RoundProposed, UpdateAdmitted
from schemas.leases import LEASE_MARGIN_MS
from schemas.policy import Policy
from schemas.policy.metrics import Fidelity
from schemas.receipts.members import compute_members_root
from tests.worlds.builders import TASK, lease, lease_id, policy, task_closed, update_checked
from tests.worlds.rounds import given, refusal_of, release_stored, task_halted
from tests.worlds.specification import Situation

LEASE_MS = 60_000


def _rules(**changes: object) -> Policy:
    plain: dict[str, object] = {"tier": "sealed", "sealed": {"epoch_versions": 2}, "selection": {"lease_s": 60.0}}
    return policy(**{**plain, **changes})


def _made(epoch: int) -> EpochMade:
    return EpochMade(task=TASK, epoch=epoch, statement=b"key %d" % epoch)


def _opened(epoch: int) -> EpochOpened:
    return EpochOpened(task=TASK, epoch=epoch, statement=b"key %d" % epoch)


def _gone(epoch: int, reason: str = "over") -> EpochKeyGone:
    return EpochKeyGone(task=TASK, epoch=epoch, reason=reason)  # type: ignore[arg-type]


def _begin(**changes: object) -> Situation[Rounds]:
    """A task in its first epoch."""
    return given(_rules(**changes)).when(_made(0))


def _submit(
    situation: Situation[Rounds], device: str, *, epoch: int = 0, number: int = 0, at_ms: int = 1_000, until_ms: int = 0
) -> object:
    """An update under a lease of this epoch."""
    created = situation.state.tasks[TASK].created
    until_ms = until_ms or at_ms + LEASE_MS
    held = lease(device, of=created, lease=lease_id(f"{device}/{number}"), deadline_ms=until_ms, epoch=epoch)
    return update_checked(under=held, append_ms=at_ms)


def _release(situation: Situation[Rounds], round_id: int, **changes: int) -> None:
    """Three updates, and the version that they make."""
    for device in "abc":
        situation.when(_submit(situation, device, number=round_id, **changes))
    situation.when(release_stored(round_id, round_id + 1))


def test_a_sealed_task_wants_a_key_first_and_one_alone() -> None:
    """Law 2: the key is wanted until it is there; made twice it opens no second epoch."""
    situation = given(_rules())
    assert wants_epoch(situation.state.tasks[TASK])
    situation.when(_made(0)).then(_opened(0))
    assert not wants_epoch(situation.state.tasks[TASK])
    situation.when(_made(0)).then_nothing()
    situation.when(_made(1)).then_nothing()
    assert not wants_epoch(given(policy()).state.tasks[TASK])


def test_another_epoch_opens_by_version() -> None:
    """A key serves for as many versions as the policy says."""
    situation = _begin()
    _release(situation, 0)
    assert not wants_epoch(situation.state.tasks[TASK])
    _release(situation, 1)
    assert wants_epoch(situation.state.tasks[TASK])
    situation.when(_made(1)).then(_opened(1))
    assert waits_for_time(situation.state.tasks[TASK])


def test_a_task_that_ends_wants_no_key() -> None:
    """Between the last proposal and the halt, and after it, no lease can lead to anything."""
    situation = given(_rules()).when(task_closed())
    assert not wants_epoch(situation.state.tasks[TASK])
    situation.when(_made(0)).then_nothing()


@pytest.mark.parametrize("tier", ["plain", "sealed"])
def test_a_lease_of_the_other_tier_is_of_another_policy(tier: str) -> None:
    """A selector that is taken over can neither leave a seal away nor ask for one."""
    situation = _begin() if tier == "sealed" else given(policy())
    update = _submit(situation, "a")
    if tier == "sealed":
        update = _drop_epoch(update)
    assert refusal_of(situation, update) == "other_policy"


def _drop_epoch(update: object) -> object:
    """The same update under a lease that names no epoch."""
    held = msgspec.structs.replace(update.lease, epoch=msgspec.UNSET)  # type: ignore[attr-defined]
    return replace(update, lease=held)  # type: ignore[type-var]


def test_under_a_retired_epoch_leases_in_flight_still_count_and_no_others() -> None:
    """A device may take its lease's time and a selector a minute to hear of the next; later nothing keeps a key."""
    situation = _begin(sealed={"epoch_versions": 1}).at(10_000)
    _release(situation, 0)
    situation.when(_made(1))
    end_ms = 10_000 + LEASE_MS + GRACE_MS
    late_ms = end_ms + LEASE_MARGIN_MS
    assert refusal_of(situation, _submit(situation, "d", at_ms=end_ms + 1, until_ms=late_ms)) == "epoch_over"
    situation.when(_submit(situation, "e", at_ms=end_ms, until_ms=late_ms))
    assert situation.state.tasks[TASK].buffer.members.keys() == {"e"}
    assert refusal_of(situation, _submit(situation, "f", epoch=2)) == "epoch_over"


def test_what_a_device_tells_in_the_open_is_not_journalled() -> None:
    """Journals hold sums: a device that tells its metrics beside its envelope has them nowhere either."""
    situation = _begin(evaluation={"report": ["loss"]})
    told = replace(_submit(situation, "a"), metrics=(7,), fidelity=Fidelity(kept=1, lost=1))  # type: ignore[type-var]
    situation.when(told)
    [admitted] = situation.caused
    assert isinstance(admitted, UpdateAdmitted)
    assert (admitted.metrics, admitted.fidelity) == ((), None)


def test_a_key_goes_when_neither_lease_nor_round_needs_it() -> None:
    """Not a moment earlier: a round that is not published may have to be summed from its bodies again."""
    situation = _begin(sealed={"epoch_versions": 1}).at(10_000)
    _release(situation, 0)
    situation.when(_made(1))
    end_ms = 10_000 + LEASE_MS + GRACE_MS
    task = situation.state.tasks[TASK]
    assert [*list_over(task, end_ms - 1)] == []
    assert [*list_over(task, end_ms)] == [0]
    situation.when(_submit(situation, "d", at_ms=end_ms))
    assert [*list_over(task, end_ms)] == []
    situation.at(end_ms).when(_gone(0)).then_nothing()
    for device in "ef":
        situation.when(_submit(situation, device, epoch=1, at_ms=end_ms))
    assert [*list_over(task, end_ms)] == []
    situation.when(release_stored(1, 2))
    situation.when(_gone(0)).then(EpochDestroyed(task=TASK, epoch=0, reason="over"))
    situation.when(_gone(0)).then_nothing()


def test_a_policy_may_keep_a_key_for_its_auditors() -> None:
    """`kept_s` is counted from the moment at which it would have gone, at the end of a task too."""
    situation = _begin(sealed={"kept_s": 100.0}, stop={"versions_max": 1}).at(10_000)
    _release(situation, 0)
    task = situation.state.tasks[TASK]
    assert task.status == "halted"
    assert [*list_over(task, 109_999)] == []
    assert [*list_over(task, 110_000)] == [0]


def test_a_lost_key_takes_its_rounds_along_and_no_other() -> None:
    """Rounds without a member under it go on; those with one are abandoned, and the next opens."""
    situation = _begin(sealed={"epoch_versions": 1})
    _release(situation, 0)
    situation.when(_made(1))
    for device in "abc":
        situation.when(_submit(situation, device, epoch=1, number=1))
    situation.when(_submit(situation, "d", epoch=1))
    task = situation.state.tasks[TASK]
    pending, buffer = task.pending[0], task.buffer
    situation.when(_gone(0, "lost")).then(EpochDestroyed(task=TASK, epoch=0, reason="lost"))
    situation.when(_gone(1, "lost"))
    assert situation.caused == [
        EpochDestroyed(task=TASK, epoch=1, reason="lost"),
        *(
            RoundAbandoned(
                task=TASK,
                round=each.id,
                members_root=compute_members_root(each.members.values()),
                members=len(each.members),
                reason="epoch_lost",
            )
            for each in (pending, buffer)
        ),
        RoundOpened(task=TASK, round=3),
    ]
    assert wants_epoch(task)
    situation.when(_made(1)).then_nothing()
    situation.when(_made(2)).then(_opened(2))


def test_a_lost_key_leaves_an_open_round_that_does_not_need_it() -> None:
    """The pending round goes, and the buffer that has opened since stays."""
    situation = _begin()
    for device in "abc":
        situation.when(_submit(situation, device))
    assert isinstance(situation.caused[1], RoundProposed)
    situation.when(_gone(0, "lost"))
    assert [type(event) for event in situation.caused] == [EpochDestroyed, RoundAbandoned]
    assert situation.state.tasks[TASK].buffer.id == 1


def test_a_lost_key_ends_a_task_that_was_waiting_for_its_last_round() -> None:
    """No version will come: another round opens while versions are missing, and a closed task halts."""
    situation = _begin(stop={"versions_max": 1})
    for device in "abc":
        situation.when(_submit(situation, device))
    situation.when(_gone(0, "lost"))
    assert situation.caused[-1] == RoundOpened(task=TASK, round=1)
    situation = _begin()
    for device in "abc":
        situation.when(_submit(situation, device))
    situation.when(task_closed()).when(_gone(0, "lost"))
    assert situation.caused[-1] == task_halted("closed", 0)
