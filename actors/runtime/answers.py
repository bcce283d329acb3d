"""Answers to devices, signed: not history, and a function of it, so they are sent after the commit and may get lost."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import structlog

from schemas.canonical import encode
from schemas.certificates import Signer
from schemas.events import Answer, Declined, Enrolled, EnrolmentRefused, Granted, Outcome
from schemas.topics import ANSWERS, answer_partition
from streams.log import Draft, EventLog, LogUnavailable

logger = structlog.get_logger()


class Answers:
    """Collects answers while an actor decides, and sends them once the journal holds what they say."""

    def __init__(self, log: EventLog, signer: Signer) -> None:
        self.waiting: list[Answer] = []
        self._log, self._signer = log, signer

    def send(self) -> None:
        """Send what waits. A device that misses its answer asks again, so that a failure is only logged."""
        # Emptied first: a device that misses its answer asks again, and a late one could contradict the newer one.
        waiting, self.waiting = self.waiting, []
        drafts = [
            Draft(
                topic=ANSWERS.name,
                partition=answer_partition(answer.device, self._log.partitions),
                value=self._signer.certify(encode(answer)),
                key=answer.device.encode(),
            )
            for answer in keep_newest(waiting)
        ]
        try:
            self._log.append(drafts)
        # The decisions stand in the journal: to end here would cost a replay and give nobody an answer.
        except LogUnavailable as error:
            logger.warning("answers_lost", count=len(drafts), error=str(error))


def keep_newest(answers: Iterable[Answer]) -> list[Answer]:
    """One answer for each thing that a device can be told, the newest, in the order of these.

    A device is its key, so that nobody else's question takes an answer away; and whoever asks again and again pays for
    one signature and one record a run.
    """
    newest: dict[Hashable, Answer] = {}
    for answer in answers:
        key = _name_subject(answer)
        # Taken out first, because an answer must not come before one that was given earlier.
        newest.pop(key, None)
        newest[key] = answer
    return [*newest.values()]


def _name_subject(answer: Answer) -> Hashable:
    match answer:
        case Granted():
            return answer.device, answer.sealed
        case Declined():
            return answer.device, answer.task
        case Outcome():
            return answer.device, answer.update, answer.record_sha256
        case Enrolled():
            return answer.device, answer.certificate
        case EnrolmentRefused():
            return answer.device, EnrolmentRefused, answer.population
