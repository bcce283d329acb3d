"""Situations of the aggregator's decider: one task, its open round, honest updates, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.deciders.admission import UpdateChecked, refusal
from actors.deciders.aggregator import ReleaseStored, make_decider
from actors.deciders.aggregator_state import Rounds
from schemas.certificates import name_evaluator, read_certificate
from schemas.events import (
    HaltReason,
    JournalEvent,
    ModelPublished,
    RoundCharged,
    SumStored,
    TaskHalted,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.policy import Policy
from schemas.receipts.members import compute_members_root
from tests.worlds.builders import (
    NOISE,
    TASK,
    body_ref,
    lease,
    lease_id,
    mechanism,
    model_published,
    policy,
    private_policy,
    role_key,
    task_created,
    update_admitted,
    update_checked,
)
from tests.worlds.specification import Situation
from tests.worlds.specification import given as given_decider

AGGREGATOR = make_decider(NOISE.id)


def given(rules: Policy | None = None, *history: JournalEvent, **changes: Any) -> Situation[Rounds]:
    """A task with its first version and an open round, and what came then."""
    begun = given_decider(AGGREGATOR).when(task_created(rules or policy(), **changes))
    begun.prepare = _judge
    return begun.given(*history)


def _judge(state: Rounds, one: object) -> object:
    """As the aggregator's effects do: work out the refusal of an update on the state that will decide it."""
    if not isinstance(one, UpdateChecked):
        return one
    reason = refusal(state, one.lease, append_ms=one.append_ms)
    return replace(one, refusal=reason)


def update_of(device: str, situation: Situation[Rounds], *, version: int = 0, number: int = 0, **changes: Any) -> Any:
    """An honest update of a device; a lease's `number` tells its leases apart."""
    created = situation.state.tasks[TASK].created
    lease_fields = {name: changes.pop(name) for name in ("deadline_ms", "policy_sha256", "task") if name in changes}
    held = lease(device, of=created, lease=lease_id(f"{device}/{number}"), version=version, **lease_fields)
    return update_checked(under=held, **changes)


def admission_of(situation: Situation[Rounds], device: str, round_id: int = 0, **changes: Any) -> UpdateAdmitted:
    """What an honest update becomes."""
    held = update_of(device, situation, number=changes.pop("number", 0)).lease
    plain = {"update": held.lease, "body": body_ref(held.lease), "round": round_id, "deadline_ms": held.deadline_ms}
    return update_admitted(device, **{**plain, **changes})


def fill(situation: Situation[Rounds], devices: str, **changes: Any) -> list[UpdateAdmitted]:
    """These devices' updates are admitted; their admissions."""
    admissions = []
    for device in devices:
        situation.when(update_of(device, situation, **changes))
        [admitted] = [event for event in situation.caused if isinstance(event, UpdateAdmitted)]
        admissions.append(admitted)
    return admissions


def release_stored(round_id: int, version: int) -> ReleaseStored:
    """The host has stored what a round releases."""
    model = body_ref(f"model {version}", "models")
    return ReleaseStored(task=TASK, round=round_id, sum_sha256=b"s" * 32, model=model, moments=None)


def publication(round_id: int, version: int, members: Sequence[UpdateAdmitted]) -> tuple[SumStored, ModelPublished]:
    """What that becomes for a round of these members."""
    count, root = len(members), compute_members_root(members)
    stored = SumStored(task=TASK, round=round_id, members=count, sum_sha256=b"s" * 32, body=None)
    return stored, model_published(version, round=round_id, members=count, members_root=root)


def round_charged(round_id: int, rules: Policy) -> RoundCharged:
    """The ledger has paid for a round."""
    noise = mechanism(rules)
    assert noise is not None
    return RoundCharged(
        task=TASK, round=round_id, mechanism=noise, participations_max=1, rho_total=0.5, epsilon=1.0, delta=1e-5
    )


def task_halted(reason: HaltReason, version: int | None = 0) -> TaskHalted:
    """The end of the task, with its newest version."""
    return TaskHalted(task=TASK, reason=reason, version=version)


def evaluator_id(serial: int = 0) -> str:
    """How the evaluator with this key is called in what it says."""
    return name_evaluator(read_certificate(role_key("evaluator", serial=serial).certificate).public_key)


def refusal_of(situation: Situation[Rounds], update: Any) -> str:
    """Why this update is refused. A refusal names its lease, whose deadline it carries; a count only a task here."""
    situation.when(update)
    [event] = situation.caused
    if isinstance(event, UpdatesDeclined):
        assert event.task == (update.lease.task if update.lease.task in situation.state.tasks else None)
        [(reason, count)] = event.counts.items()
        assert count == 1
        return reason
    assert isinstance(event, UpdateRefused)
    assert (event.update, event.device) == (update.lease.lease, update.lease.device)
    assert event.deadline_ms == update.lease.deadline_ms
    return event.reason


PRIVATE = private_policy()
