"""Who is revoked, and what a device's certificate is worth here: refused at the door, where it costs the log nothing.

A fold over `registry`, of which only revocations are kept. The selector decides again by the order of the log: what is
let through here in the moment of a revocation gets no lease there.
"""

from __future__ import annotations

import structlog

from ops.gateway.refusals import Expired, Unproven
from schemas.certificates import Trust
from schemas.events import DeviceCheckedIn, DeviceRevoked, TaskCreated
from schemas.identity.certificates import find_end_ms, open_certificate
from schemas.identity.remedies import describe_refusal
from schemas.topics import REGISTRY, population_of
from streams.journals import JournalBroken, JournalReader
from streams.log import Record, TopicPartition

# Log time is the brokers' and the clock here is ours.
MARGIN_MS = 5_000

logger = structlog.get_logger(__name__)


class Standing:
    """One thread applies the records of `registry`, and any other asks."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._journals: dict[TopicPartition, JournalReader | None] = {}
        self._devices: set[str] = set()
        # By population: a subject is one in each.
        self._subjects: set[tuple[str | None, str]] = set()

    def restart(self) -> None:
        """From here on each journal comes from its beginning; what is known stays known."""
        self._journals.clear()

    def apply(self, record: Record) -> None:
        """Take one record; those of a partition in order."""
        at = record.at
        if at not in self._journals:
            self._journals[at] = JournalReader(at, trust=self._trust)
        if (journal := self._journals[at]) is None:
            return
        try:
            batch = journal.follow(record)
        except JournalBroken as error:
            # What was learned stays; from here on the selector alone knows who is gone.
            logger.error("registry_broken", topic=REGISTRY.name, partition=at.partition, error=str(error))
            self._journals[at] = None
            return
        for decision in batch.decisions if batch is not None else ():
            for event in decision.events:
                if isinstance(event, DeviceRevoked):
                    self._note(event)

    def require(self, said: DeviceCheckedIn, created: TaskCreated, *, at_ms: int) -> str:
        """The class of a device that may take part in this task, as far as is known here; empty in an open task.

        Raises Unproven, Expired; each says what whoever holds the device can do.
        """
        if not created.policy.is_enrolled:
            return ""
        certificate = said.certificate or b""
        shown = open_certificate(certificate, self._trust, at_ms=0)
        if shown is None or shown.public_key != said.public_key:
            raise _refuse("not_enrolled")
        population = population_of(said.task)
        if shown.population != population:
            raise _refuse("other_population")
        if said.device in self._devices or (population, shown.subject) in self._subjects:
            raise _refuse("revoked")
        # A registrar's own certificate may end before those that it has signed.
        if at_ms - MARGIN_MS > find_end_ms(certificate):
            raise Expired(describe_refusal("certificate_expired"))
        if not created.policy.takes_class(shown.device_class):
            raise _refuse("other_class")
        return f"{population}/{shown.device_class}"

    def _note(self, event: DeviceRevoked) -> None:
        if event.device is not None:
            self._devices.add(event.device)
        elif event.subject is not None:
            self._subjects.add((event.population, event.subject))


def _refuse(reason: str) -> Unproven:
    return Unproven(describe_refusal(reason), code=reason)
