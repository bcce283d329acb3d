"""Opens and closes enrolments, makes tokens, revokes and forgets; each order is signed, and what counts is the journal.

An order is a record in `enrolments`. A revocation goes into every partition, because one key may be enrolled in
several populations, and each partition's registrar and selector hear of it through their own journals.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ops.operator.enrolling.authority import Authority
from ops.operator.enrolling.standing import list_members, read_home
from ops.operator.enrolling.vault import SubjectUnknown, Vault
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import DeviceRevoked, EnrolmentClosed, EnrolmentOpened, EnrolmentOrder, Noticed
from schemas.identifiers import SALT_BYTES
from schemas.identity.orders import say_in_name
from schemas.identity.pseudonyms import compute_mark
from schemas.identity.tokens import TOKEN_MS, EnrolmentToken, sign_token
from schemas.journal import Batch, open_record
from schemas.topics import ENROLMENTS, SELECTIONS, partition_of
from streams.log import Draft, EventLog, Record, TopicPartition

WAIT_S = 10.0
DAY_MS = 86_400_000


class EnrolmentMissing(FedlogError):
    """Nobody has opened an enrolment of that class in that population, or it is closed."""

    exit_code = EXIT_USAGE
    code = "enrolment_missing"


@dataclass(frozen=True, slots=True)
class Registrations:
    """The log on which an authority acts."""

    log: EventLog
    authority: Authority

    @property
    def trust(self) -> Trust:
        """What is believed of it."""
        return Trust(self.authority.operator, self.authority.deployment)

    def open(self, population: str, device_class: str, *, quota: int, days: int) -> EnrolmentOpened:
        """Let so many subjects of a class enrol, for so many days."""
        order = EnrolmentOpened(
            deployment=self.authority.deployment,
            population=population,
            device_class=device_class,
            number=self.find_number(population, device_class) + 1,
            quota=quota,
            until_ms=_read_clock_ms() + days * DAY_MS,
        )
        self._say(order, [partition_of(population, self.log.partitions)])
        return order

    def close(self, population: str, device_class: str) -> EnrolmentClosed:
        """Let no more of them enrol. Raises EnrolmentMissing."""
        number = self.find_number(population, device_class)
        if not number:
            raise EnrolmentMissing
        order = EnrolmentClosed(
            deployment=self.authority.deployment, population=population, device_class=device_class, number=number
        )
        self._say(order, [partition_of(population, self.log.partitions)])
        return order

    def make_token(
        self, population: str, device_class: str, *, vault: Vault, name: str = "", device: str | None = None
    ) -> bytes:
        """A token for somebody, who is the same subject each time; without a name for somebody new.

        It asks nobody: whether the enrolment is open is found out with it. Raises SubjectForgotten.
        """
        mark = self._mark(name, population) if name else b""
        token = EnrolmentToken(
            deployment=self.authority.deployment,
            population=population,
            device_class=device_class,
            subject=vault.find_or_draw(mark) if name else secrets.token_hex(SALT_BYTES),
            device=device,
            until_ms=_read_clock_ms() + TOKEN_MS,
            nonce=secrets.token_bytes(SALT_BYTES),
        )
        return sign_token(token, self.authority.author)

    def revoke(self, device: str, *, reason: str) -> float | None:
        """Take a device out of every population; after how many seconds all selectors knew, None where some did not."""
        return self._revoke(
            DeviceRevoked(
                deployment=self.authority.deployment,
                population=None,
                device=device,
                subject=None,
                reason=reason,  # type: ignore[arg-type]
            ),
            range(self.log.partitions),
        )

    def forget(self, *, vault: Vault, device: str = "", name: str = "", population: str = "") -> list[str]:
        """Bar a subject for good and delete its salt; the populations where that was so.

        Raises SubjectUnknown where no such device is enrolled, or another vault has its salt; then nobody is barred.
        """
        found = (
            [(population, vault.find_or_draw(self._mark(name, population)))]
            if name
            else [(home, member.subject) for home, member in list_members(self.log, device, trust=self.trust)]
        )
        if not found:
            raise SubjectUnknown
        # Before anybody is barred: a salt that is elsewhere has to be deleted there.
        marks = [vault.find_mark(subject) for _, subject in found]
        for (home, subject), mark in zip(found, marks, strict=True):
            order = DeviceRevoked(
                deployment=self.authority.deployment,
                population=home,
                device=None,
                subject=subject,
                reason="forgotten",
            )
            self._revoke(order, [partition_of(home, self.log.partitions)])
            # Last: with the salt gone nobody could say again which subject it was.
            vault.forget(mark)
        return [home for home, _ in found]

    def _revoke(self, order: DeviceRevoked, partitions: Iterable[int]) -> float | None:
        places = [TopicPartition(SELECTIONS.name, number) for number in partitions]
        reader = self.log.reader({at: self.log.bounds(at).end for at in places})
        began_s = time.monotonic()
        try:
            self._say(order, [at.partition for at in places])
            missing = {at.partition for at in places}
            while missing and time.monotonic() - began_s < WAIT_S:
                missing -= {record.partition for record in reader.poll(0.1) if _notices(record, order)}
        finally:
            reader.close()
        return None if missing else time.monotonic() - began_s

    def _mark(self, name: str, population: str) -> bytes:
        return compute_mark(self.authority.subjects, name, population=population)

    def find_number(self, population: str, device_class: str) -> int:
        found = read_home(self.log, population, trust=self.trust).populations.get(population)
        known = found.enrolments.get(device_class) if found is not None else None
        return known.number if known is not None else 0

    def _say(self, order: EnrolmentOrder, partitions: Iterable[int]) -> None:
        value = say_in_name(order, self.authority.author)
        self.log.append([Draft(topic=ENROLMENTS.name, partition=number, value=value) for number in partitions])


def await_standing(is_so: Callable[[], bool]) -> bool:
    """Whether it is so within a few seconds: an order counts once the registrar has decided it."""
    end_s = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True


def _notices(record: Record, order: DeviceRevoked) -> bool:
    """Whether a record of a selector's journal says that it knows."""
    try:
        content = open_record(record.value or b"")
    except MalformedError:
        return False
    events = [event for one in content.decisions for event in one.events] if isinstance(content, Batch) else []
    return any(isinstance(event, Noticed) and event.fact == order for event in events)


def _read_clock_ms() -> int:
    return time.time_ns() // 1_000_000
