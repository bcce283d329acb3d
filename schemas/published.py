"""The public contract: a CloudEvents 1.0 record in JSON for every version, for services that know nothing of fedlog.

Each step of a rollout has one too, and each crossing of a bound of drift, of a type of its own: whoever wants versions
alone goes by the type. Each carries
the head of the journal that published it, and an Ed25519 signature over the record without `signature`, in
its canonical form (keys sorted, no spaces): a checkpoint, against which a journal that was cut or rewritten shows. The
journal's actor signs; `certificate` is the operator's word that it may.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.canonical import MalformedError, to_plain
from schemas.certificates import Trust
from schemas.events import (
    CanaryGrown,
    CanaryStarted,
    DriftEnded,
    DriftEvent,
    DriftFound,
    Evidence,
    ModelPublished,
    Promoted,
    RolledBack,
    RolloutHalted,
)
from schemas.identifiers import BodyRef

EVENT_TYPE = "io.fedlog.model.published.v1"
EXPORT_TYPE = "io.fedlog.journals.exported.v1"
AGGREGATOR = "aggregator"
ROLLOUT = "rollout"
_ROLLOUT_TYPE = "io.fedlog.rollout.{}.v1"
# What is announced of a rollout, and by which word.
Step = CanaryStarted | CanaryGrown | Promoted | RolledBack | RolloutHalted
STEPS: dict[type[Step], str] = {
    CanaryStarted: "canary",
    CanaryGrown: "canary",
    Promoted: "promoted",
    RolledBack: "rolledback",
    RolloutHalted: "halted",
}
STEP_TYPES = frozenset(_ROLLOUT_TYPE.format(word) for word in STEPS.values())
# What is announced of a measure task's answers, by which word: what goes on is in the journal alone.
DRIFTS: dict[type[DriftEvent], str] = {DriftFound: "found", DriftEnded: "ended"}
_DRIFT_TYPE = "io.fedlog.drift.{}.v1"
DRIFT_TYPES = frozenset(_DRIFT_TYPE.format(word) for word in DRIFTS.values())
_MILLION = 1_000_000
SIGNATURE = ("signedby", "certificate", "signature")
# A version with more digits does not fit into an event, and Python refuses to read very long numbers.
DIGITS_MAX = 19


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a journal's chain stands right after its batch `seq`; `head` in hex."""

    topic: str
    partition: int
    seq: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed record as it was read: id and type, the heads that it vouches for, and the public key that signed it."""

    id: str
    type: str = EVENT_TYPE
    heads: tuple[Head, ...]
    signed_by: bytes
    certificate: bytes = b""
    time_ms: int = 0
    # Of the journals, where an export says so; an announcement has it in its certificate.
    deployment: bytes | None = None

    @property
    def is_version(self) -> bool:
        """Whether it announces a version; readers pass over types that they do not know."""
        return self.type == EVENT_TYPE

    @property
    def task(self) -> str:
        """The task of an announced version, or of a step of its rollout."""
        return self.id.partition("/")[0]

    @property
    def version(self) -> int:
        """The announced version; 0 where the id names none."""
        number = self.id.partition("/")[2]
        return int(number) if number.isdecimal() and len(number) < DIGITS_MAX else 0

    @property
    def seq(self) -> int:
        """The last batch that any of its heads vouches for; -1 without a head."""
        return max((head.seq for head in self.heads), default=-1)


def describe_version(published: ModelPublished, time_ms: int, *, head: Head) -> dict[str, Any]:
    """The statement of one version, not yet signed: a pure function of the journal."""
    return {
        "specversion": "1.0",
        "id": version_id(published),
        "source": f"/fedlog/tasks/{published.task}",
        # The version is in the type: consumers subscribe to it, and another form is another type.
        "type": EVENT_TYPE,
        "subject": published.task,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {
            "task": published.task,
            "version": published.version,
            "round": published.round,
            "model": to_plain(published.model),
            "members_root": None if published.members_root is None else published.members_root.hex(),
            "members": published.members,
            "journal": msgspec.to_builtins(head),
        },
    }


def describe_step(step: Step, time_ms: int, *, head: Head) -> dict[str, Any]:
    """The statement of one step of a rollout, not yet signed: a pure function of the journal.

    `model` is the one that is to be used from now on by those whom the step is about.
    """
    word, plain = STEPS[type(step)], msgspec.to_builtins(step)
    told = ("task", "version", "previous", "to", "stage", "share", "cohorts", "reason")
    evidence = [dict(zip(Evidence.__struct_fields__, each, strict=True)) for each in plain["evidence"]]
    model = getattr(step, "model", None)
    # As whoever heard of the drift has it already.
    drift = {"drift": _tell_drift(step.drift)} if isinstance(step, RolledBack) and step.drift else {}
    return {
        "specversion": "1.0",
        "id": f"{step.task}/{step.version or 0}/{word}/{head.seq}",
        "source": f"/fedlog/tasks/{step.task}",
        "type": _ROLLOUT_TYPE.format(word),
        "subject": step.task,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {
            **{name: [*plain[name]] if name == "cohorts" else plain[name] for name in told if name in plain},
            "evidence": evidence,
            **drift,
            "model": None if model is None else to_plain(model),
            "journal": msgspec.to_builtins(head),
        },
    }


def is_announced(event: object) -> bool:
    """Whether an event of a kind that is announced is news: of drift that goes on with a version nothing is said."""
    return not isinstance(event, DriftFound) or event.since == event.version


def describe_drift(event: DriftEvent, time_ms: int, *, head: Head) -> dict[str, Any]:
    """The statement of a distance that has crossed its bound, not yet signed: a pure function of the journal."""
    word = DRIFTS[type(event)]
    return {
        "specversion": "1.0",
        "id": f"{event.task}/{event.version}/drift{word}/{head.seq}",
        "source": f"/fedlog/tasks/{event.task}",
        "type": _DRIFT_TYPE.format(word),
        "subject": event.task,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {**_tell_drift(event), "model": None, "journal": msgspec.to_builtins(head)},
    }


def _tell_drift(event: DriftEvent) -> dict[str, Any]:
    # All of it: there is nothing in it that only some may know.
    plain: dict[str, Any] = msgspec.to_builtins(event)
    plain.pop("type")
    # As people write a policy's bounds; whole millionths stand in the journal.
    return plain | {name: plain[name] / _MILLION for name in ("value", "bound", "by_chance")}


def describe_heads(heads: Iterable[Head], time_ms: int, *, deployment: bytes | None = None) -> dict[str, Any]:
    """The statement of the journals in an export of this deployment, not yet signed."""
    named = {} if deployment is None else {"deployment": deployment.hex()}
    return {
        "specversion": "1.0",
        "id": f"journals/{time_ms}",
        "source": "/fedlog/journals",
        "type": EXPORT_TYPE,
        "time": _moment(time_ms),
        "datacontenttype": "application/json",
        "data": {**named, "journals": msgspec.to_builtins([*heads])},
    }


def sign_statement(statement: dict[str, Any], key: Ed25519PrivateKey, *, certificate: bytes = b"") -> bytes:
    """The record; Ed25519 draws nothing, so the same statement and key always give the same bytes.

    The operator's own key needs no certificate.
    """
    by = {"signedby": key.public_key().public_bytes_raw().hex()}
    event = {**statement, **by, **({"certificate": certificate.hex()} if certificate else {})}
    return _canonical({**event, "signature": key.sign(_canonical(event)).hex()})


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Read a record and check its signature against the key that it names. Raises MalformedError."""
    try:
        event = json.loads(data)
        # Only one form is signed: another would be a second record with the same signature.
        if _canonical(event) != data:
            raise MalformedError("not the canonical form")
        # JSON can spell half a character, which nobody can compare with a key or print.
        json.dumps(event, ensure_ascii=False).encode()
        # Said apart from the rest: somebody may have removed the signature.
        if "signedby" not in event:
            raise MalformedError("it is not signed")
        given = [event["data"]["journal"]] if "journal" in event["data"] else event["data"]["journals"]
        heads = msgspec.convert(given, tuple[Head, ...])
        public = bytes.fromhex(event["signedby"])
        said = event.pop("signature")
        signature = bytes.fromhex(said)
        # The signature is outside what it covers, so that its own spelling has to be the one that is written.
        if signature.hex() != said:
            raise MalformedError("not the canonical form")
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _canonical(event))
        certificate = bytes.fromhex(event.get("certificate", ""))
        time_ms = round(datetime.fromisoformat(event["time"]).timestamp() * 1000)
        named = event["data"].get("deployment")
        return Checkpoint(
            id=str(event["id"]),
            type=str(event["type"]),
            heads=heads,
            signed_by=public,
            certificate=certificate,
            time_ms=time_ms,
            deployment=None if named is None else bytes.fromhex(named),
        )
    except InvalidSignature as error:
        raise MalformedError("its signature is not over these bytes") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"no announcement of fedlog ({type(error).__name__}: {error})") from error


def is_vouched_for(given: Checkpoint, trust: Trust, *, at_ms: int = 0) -> bool:
    """Whether the operator signed it, or the actor that says such things, certified by the operator at that time.

    `at_ms` is when the log appended it, where that is known: whoever signs chooses the time that the record names.
    """
    if given.signed_by == trust.operator:
        return True
    certificate, role = trust.find_certificate(given.certificate), ROLLOUT if given.type in STEP_TYPES else AGGREGATOR
    if certificate is None or certificate.role != role or max(given.time_ms, at_ms) > certificate.until_ms:
        return False
    return certificate.public_key == given.signed_by and trust.deployment in (None, certificate.deployment)


def find_deployment(given: Checkpoint, trust: Trust) -> bytes | None:
    """The deployment whose journals a checkpoint speaks of, where it or its signer's certificate says so."""
    certificate = trust.find_certificate(given.certificate)
    return certificate.deployment if certificate is not None else given.deployment


def read_version(data: bytes, trust: Trust, *, at_ms: int = 0) -> ModelPublished | None:
    """The version that a certified aggregator announced in a record; None for whatever else stands there.

    Without its moments, which no announcement names. `at_ms` as above.
    """
    try:
        if not is_vouched_for(parse_checkpoint(data), trust, at_ms=at_ms):
            return None
        said = parse_statement(data)
        if said["type"] != EVENT_TYPE:
            return None
        told, root = said["data"], said["data"]["members_root"]
        plain = {name: told[name] for name in ("task", "version", "round", "members")}
        roots = {"members_root": None if root is None else bytes.fromhex(root), "moments": None}
        tag = {"type": ModelPublished.__struct_config__.tag}
        return msgspec.convert({**tag, **plain, **roots, "model": read_body(told["model"])}, ModelPublished)
    except (MalformedError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
        # Whoever may write there can end nobody who reads it.
        return None


def read_body(plain: Any) -> BodyRef:
    """The address of a body as an announcement spells it. Raises ValueError, KeyError, TypeError, MsgspecError."""
    return msgspec.convert({**plain, "sha256": bytes.fromhex(plain["sha256"])}, BodyRef)


def parse_statement(data: bytes) -> dict[str, Any]:
    """What a record says, without its signature, which is not checked; empty where it says nothing."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in event.items() if name not in SIGNATURE} if isinstance(event, dict) else {}


def find_seq(statement: dict[str, Any]) -> int:
    """The batch that published what a statement says; -1 where it names none."""
    try:
        return int(statement["data"]["journal"]["seq"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return -1


def find_journal(statement: dict[str, Any]) -> str:
    """The topic of the journal that a statement follows from; empty where it names none."""
    try:
        return str(statement["data"]["journal"]["topic"])
    except (KeyError, TypeError):
        return ""


def version_id(published: ModelPublished) -> str:
    """The id of a version's record: task/version."""
    return f"{published.task}/{published.version}"


def _canonical(event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":"), sort_keys=True).encode()


def _moment(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
