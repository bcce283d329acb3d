"""A record of `published` becomes an announcement, or is refused with a reason.

It is believed for two signatures: the operator's over a certificate, and the certified key's over the record; the
certificate has to be of the role whose word such an announcement is. A true one that is written again, perhaps by a
stranger, shows by the number of its batch: those of one journal never go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.announcements.forms import KINDS, Data, DriftEnded, DriftFound, Kind, RolloutHalted, VersionRolledBack
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.identifiers import BodyRef
from schemas.published import find_deployment, is_vouched_for, parse_checkpoint, parse_statement, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One announcement that is believed.

    `statement`: the CloudEvent without its signature; `record` has it. `deployment`: that of the certificate; None
    where the operator signed it. `body`: where the model stands of the version to be used.
    """

    kind: Kind
    statement: dict[str, Any]
    data: Data
    time_ms: int
    deployment: bytes | None
    record: bytes
    body: BodyRef | None

    @property
    def seq(self) -> int:
        """The batch of the journal that decided it."""
        return self.data.journal.seq

    @property
    def id(self) -> str:
        """Its name, which no other announcement of this log has."""
        return str(self.statement["id"])

    @property
    def version(self) -> int | None:
        """The version whose model it names: the one to be used. None where it names none."""
        if isinstance(self.data, VersionRolledBack):
            # Whoever deploys the version of the newest announcement is then always right.
            return self.data.to
        return None if isinstance(self.data, RolloutHalted | DriftFound | DriftEnded) else self.data.version

    @property
    def withdrawn(self) -> int | None:
        """The version that was rolled back; None for every other kind."""
        return self.data.version if isinstance(self.data, VersionRolledBack) else None


def find_place(statement: Mapping[str, Any]) -> tuple[str, int] | None:
    """The journal and the batch that a statement names, which nobody has checked; None where it names none."""
    kind = KINDS.get(str(statement.get("type")))
    try:
        return None if kind is None else (kind.journal, int(statement["data"]["journal"]["seq"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def read_announcement(
    value: bytes, trust: Trust | None, *, partition: int | None = None, at_ms: int = 0
) -> Announcement | None:
    """What a record announces; None for a kind that this release does not know. Raises MalformedError.

    `partition` is where the record stands, `at_ms` when it was appended, as far as the reader knows. `trust` None, for
    a person who only looks, believes whoever signed it.
    """
    # It looks at the form and at the signature; what is signed with, and for whom, comes below.
    given = parse_checkpoint(value)
    statement = parse_statement(value)
    kind = KINDS.get(str(statement.get("type")))
    if kind is None:
        return None
    if trust is not None and not is_vouched_for(given, trust, at_ms=at_ms):
        raise MalformedError(f"signed by no {kind.role} that the operator has certified for this deployment")
    try:
        # Fields that are new are passed over: a later release may say more.
        data: Data = msgspec.convert(statement["data"], kind.data)
        body = None if data.model is None else read_body(statement["data"]["model"])
    except (msgspec.ValidationError, KeyError) as error:
        raise MalformedError(f"no {kind.type}: {error}") from error
    # A copy in another partition would be a second record of the same event.
    if data.journal.topic != kind.journal or partition not in (None, data.journal.partition):
        raise MalformedError(f"it speaks of {data.journal.topic}[{data.journal.partition}]")
    deployment = None if trust is None else find_deployment(given, trust)
    return Announcement(
        kind=kind,
        statement=statement,
        data=data,
        time_ms=given.time_ms,
        deployment=deployment,
        record=value,
        body=body,
    )


class Told(msgspec.Struct):
    """How far one journal has been told: the newest batch, and what was told of it."""

    seq: int = -1
    ids: list[str] = msgspec.field(default_factory=list)

    def has(self, announcement: Announcement) -> bool:
        """Whether it was told, or is older than what was."""
        seq = announcement.data.journal.seq
        return seq < self.seq or (seq == self.seq and announcement.id in self.ids)

    def note(self, announcement: Announcement) -> None:
        """It is told from now on."""
        seq = announcement.data.journal.seq
        # One batch may announce several things: they share its number.
        self.ids = [*(self.ids if seq == self.seq else []), announcement.id]
        self.seq = max(seq, self.seq)
