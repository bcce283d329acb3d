"""In every journal: what its actor learned from elsewhere, defects, digests; and the unions of all chapters."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.events.checkins import DeviceCheckedIn, LeaseAbandoned, Tick
from schemas.events.enrolment import DeviceRevoked, EnrolmentRequested, RegistryEvent
from schemas.events.evaluations import VersionEvaluated
from schemas.events.event import Event
from schemas.events.ledger import BudgetEvent
from schemas.events.masks import HelperEvent, MasksRefused, MasksSummed
from schemas.events.releasing.drift import DriftEvent
from schemas.events.releasing.rollouts import KeepsModels, RolloutEvent
from schemas.events.rounds import (
    CosignatureHeard,
    DeviceQuarantined,
    EpochDestroyed,
    EpochOpened,
    ModelPublished,
    RoundAbandoned,
    RoundEvent,
    RoundProposed,
    TaskHalted,
)
from schemas.events.selection import Answer, SelectorEvent
from schemas.events.tasks import DeploymentFounded, TaskEvent
from schemas.events.updates import AdmissionEvent, UpdateSubmitted
from schemas.identifiers import Count, Sha256

Noticeable = (
    TaskEvent
    | RoundProposed
    | ModelPublished
    | RoundAbandoned
    | TaskHalted
    | EpochOpened
    | EpochDestroyed
    | BudgetEvent
    | VersionEvaluated
    | DeviceRevoked
    | DeviceQuarantined
    | MasksSummed
    | MasksRefused
    | CosignatureHeard
    | KeepsModels
    | DriftEvent
)


class Noticed(Event):
    """What this actor learned from another's topic: recorded, so that its state folds from its own journal alone."""

    # The name is on the wire, and cannot change.
    fact: Noticeable


class DefectFound(Event):
    """Our own code failed on inputs and skipped them; only an update under a lease has another outcome as well.

    One a record for all that fail alike in a plain topic, which anybody may write to: with their count, and the first
    and the last offset. In another's journal each event stands alone, and `number` is its place in its record. `error`
    says what failed and where, without words of an input.
    """

    topic: str
    count: Count
    first_offset: Count
    last_offset: Count
    number: Count
    # Type and place of an exception only: its text may hold what a device sent.
    error: Annotated[str, msgspec.Meta(max_length=200)]


class StateDigest(Event):
    """The digest of the state after `decisions` decisions; a replay that differs stops here."""

    decisions: Count
    sha256: Sha256


JournalEvent = (
    Noticed
    | SelectorEvent
    | AdmissionEvent
    | RoundEvent
    | DriftEvent
    | BudgetEvent
    | RegistryEvent
    | RolloutEvent
    | DefectFound
    | StateDigest
)
AnyEvent = (
    DeploymentFounded
    | HelperEvent
    | TaskEvent
    | DeviceCheckedIn
    | LeaseAbandoned
    | UpdateSubmitted
    | EnrolmentRequested
    | Tick
    | JournalEvent
    | Answer
    | VersionEvaluated
)
