"""Every event of fedlog, in the order of the story. Start reading here.

* `event`: what all events have in common.
* `tasks`: create, pause, resume and close a task, or carry on from it; what its population may spend.
* `checkins`: a device says that it could train, or gives a lease up; time has passed.
* `enrolment`: who may take part where a policy asks for enrolled devices.
* `selection`: who trains, and what a device is answered.
* `updates`: an update arrives, is admitted or refused.
* `rounds`: a round opens, is summed, published or abandoned; who stands apart in it, and is let in no more.
* `ledger`: a round is charged to the privacy budget.
* `partials`: what shard workers report to the aggregator.
* `masks`: what helpers of masked tasks say.
* `evaluations`: how a version does on held-out data.
* `releasing`: which version is tried, by whom, and which one counts; how far a measure task's answers have moved.
* `journal`: what stands in every journal, and the unions of all events.

Import events from here, not from a chapter. A chapter may import `schemas.identifiers`, `schemas.policy` and other
chapters.

Rules for changing an event:

* An event is named in the past tense; its tag `Name/1` stays on the wire forever, in golden bytes and in journals.
* A field is never added, removed, renamed or given another meaning in place. Write `Name/2` beside the old one, and an
  upcaster from `Name/1` in `schemas.canonical`; the golden bytes of `Name/1` stay in the tests.
* A new kind of event, or a new word in a closed list, is first read by a release, and written by the next one.
* No floating point from a device, no clock, no secret: neither seed nor key nor training example is ever in an event.
"""

from __future__ import annotations

from schemas.events.checkins import AbandonReason, DeviceCheckedIn, LearningFailure, LeaseAbandoned, Tick
from schemas.events.enrolment import (
    DeviceEnrolled,
    DeviceRevoked,
    Enrolled,
    EnrolmentClosed,
    EnrolmentOpened,
    EnrolmentOrder,
    EnrolmentRefusal,
    EnrolmentRefused,
    EnrolmentRequested,
    EnrolmentsDeclined,
    RegistryEvent,
    RevocationReason,
)
from schemas.events.evaluations import EvaluatorId, VersionEvaluated
from schemas.events.event import Event
from schemas.events.journal import AnyEvent, DefectFound, JournalEvent, Noticeable, Noticed, StateDigest
from schemas.events.ledger import BudgetEvent, BudgetExhausted, PopulationCharge, RoundCharged, RoundWithheld
from schemas.events.masks import (
    HelperEvent,
    JournalSeen,
    MaskKeyDestroyed,
    MaskKeyOpened,
    MaskRefusal,
    MasksRefused,
    MasksSummed,
    ModelCosigned,
    ModelRefused,
    RoundBound,
)
from schemas.events.partials import BodyMeasured, Partial, PartialStored
from schemas.events.releasing.drift import DriftEnded, DriftEvent, DriftFound, DriftKind, DriftMeasure
from schemas.events.releasing.rollouts import (
    Canary,
    CanaryGrown,
    CanaryStarted,
    CandidateStaged,
    Evidence,
    KeepsModels,
    OrderRefusal,
    OrderRefused,
    Promoted,
    RollbackReason,
    RolledBack,
    RolloutEvent,
    RolloutHalted,
    RolloutResumed,
)
from schemas.events.rounds import (
    Anomaly,
    CosignatureHeard,
    DeviceQuarantined,
    EpochDestroyed,
    EpochOpened,
    HaltReason,
    MaskKeyOffered,
    Mechanism,
    MembersCompared,
    ModelPublished,
    RoundAbandoned,
    RoundEvent,
    RoundOpened,
    RoundProposed,
    SumStored,
    TaskHalted,
)
from schemas.events.selection import (
    Answer,
    CheckinsDeclined,
    Declined,
    DeclineReason,
    Granted,
    IdentityReason,
    LeaseClosed,
    LeaseGranted,
    Outcome,
    SelectorEvent,
    name_unit,
)
from schemas.events.tasks import (
    VECTOR_ROLES,
    DeploymentFounded,
    PopulationBudgetSet,
    QuarantineLifted,
    Reference,
    RolloutAction,
    RolloutOrdered,
    Subject,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskPaused,
    TaskResumed,
    TaskSucceeded,
    TensorRole,
    TensorSpec,
    count_elements,
    list_statistics,
)
from schemas.events.updates import (
    AdmissionEvent,
    BodyFault,
    CountedReason,
    InputsDropped,
    RefusalReason,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
    UpdateSubmitted,
)

__all__ = [
    "VECTOR_ROLES",
    "AbandonReason",
    "AdmissionEvent",
    "Anomaly",
    "Answer",
    "AnyEvent",
    "BodyFault",
    "BodyMeasured",
    "BudgetEvent",
    "BudgetExhausted",
    "Canary",
    "CanaryGrown",
    "CanaryStarted",
    "CandidateStaged",
    "CheckinsDeclined",
    "CosignatureHeard",
    "CountedReason",
    "DeclineReason",
    "Declined",
    "DefectFound",
    "DeploymentFounded",
    "DeviceCheckedIn",
    "DeviceEnrolled",
    "DeviceQuarantined",
    "DeviceRevoked",
    "DriftEnded",
    "DriftEvent",
    "DriftFound",
    "DriftKind",
    "DriftMeasure",
    "Enrolled",
    "EnrolmentClosed",
    "EnrolmentOpened",
    "EnrolmentOrder",
    "EnrolmentRefusal",
    "EnrolmentRefused",
    "EnrolmentRequested",
    "EnrolmentsDeclined",
    "EpochDestroyed",
    "EpochOpened",
    "EvaluatorId",
    "Event",
    "Evidence",
    "Granted",
    "HaltReason",
    "HelperEvent",
    "IdentityReason",
    "InputsDropped",
    "JournalEvent",
    "JournalSeen",
    "KeepsModels",
    "LearningFailure",
    "LeaseAbandoned",
    "LeaseClosed",
    "LeaseGranted",
    "MaskKeyDestroyed",
    "MaskKeyOffered",
    "MaskKeyOpened",
    "MaskRefusal",
    "MasksRefused",
    "MasksSummed",
    "Mechanism",
    "MembersCompared",
    "ModelCosigned",
    "ModelPublished",
    "ModelRefused",
    "Noticeable",
    "Noticed",
    "OrderRefusal",
    "OrderRefused",
    "Outcome",
    "Partial",
    "PartialStored",
    "PopulationBudgetSet",
    "PopulationCharge",
    "Promoted",
    "QuarantineLifted",
    "Reference",
    "RefusalReason",
    "RegistryEvent",
    "RevocationReason",
    "RollbackReason",
    "RolledBack",
    "RolloutAction",
    "RolloutEvent",
    "RolloutHalted",
    "RolloutOrdered",
    "RolloutResumed",
    "RoundAbandoned",
    "RoundBound",
    "RoundCharged",
    "RoundEvent",
    "RoundOpened",
    "RoundProposed",
    "RoundWithheld",
    "SelectorEvent",
    "StateDigest",
    "Subject",
    "SumStored",
    "TaskClosed",
    "TaskCreated",
    "TaskEvent",
    "TaskHalted",
    "TaskPaused",
    "TaskResumed",
    "TaskSucceeded",
    "TensorRole",
    "TensorSpec",
    "Tick",
    "UpdateAdmitted",
    "UpdateRefused",
    "UpdateSubmitted",
    "UpdatesDeclined",
    "VersionEvaluated",
    "count_elements",
    "list_statistics",
    "name_unit",
]
