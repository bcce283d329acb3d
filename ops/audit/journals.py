"""Journals as those read them who check: record by record along the chain, up to the first that does not follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ops.audit.findings import Fault
from schemas.journal import Batch, Chain, ChainBroken, ChainResumed, Decision, JournalPosition, OutOfStep
from streams.log import EventLog, Record, TopicPartition, scan

Accepts = Callable[[ChainResumed], bool]


class Broken(ChainBroken):
    """A journal is off its chain; `fault` names the records that may be to blame."""

    code = "journal_broken"

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def nobody(resumed: ChainResumed) -> bool:
    """Without the operator's key no ChainResumed can be told from a forged one."""
    return False


def followed(
    log: EventLog, place: TopicPartition, *, accepts_resume: Accepts = nobody, end: int | None = None
) -> Iterator[tuple[Record, Batch | None, Chain]]:
    """Each record below `end`, its batch (none in a claim, a resume, or a zombie's record), and the chain after it.

    Raises Broken.
    """
    beginning = log.bounds(place).beginning
    if beginning > 0:
        raise Broken(Fault(place, 0, f"the journal begins at offset {beginning}: what stood before is gone"))
    chain = Chain(accepts_resume=accepts_resume)
    last, is_next = -1, True  # the last batch, and whether nothing has come since
    for record in scan(log, place):
        if end is not None and record.offset >= end:
            return
        try:
            if record.key is not None:
                raise ChainBroken(f"offset {record.offset}: a key, which no journal record has")
            batch = chain.follow(record.offset, record.value or b"")
        except ChainBroken as error:
            what = str(error).removeprefix(f"offset {record.offset}: ")
            if isinstance(error, OutOfStep):
                what = f"{_suspects(last, is_next)} is not what its writer wrote, or one between them is gone ({what})"
            raise Broken(Fault(place, record.offset, what)) from error
        last, is_next = (last, False) if batch is None else (record.offset, True)
        yield record, batch, chain


def _suspects(last: int, is_next: bool) -> str:
    """A batch vouches for the one before it and for every claim since; which of them was changed it cannot say."""
    if last < 0:
        return "this record or one before it"
    return f"this record or {'the one at' if is_next else 'one from'} offset {last}{'' if is_next else ' on'}"


def decisions_of(
    log: EventLog, place: TopicPartition, *, accepts_resume: Accepts = nobody
) -> Iterator[tuple[Record, Decision, JournalPosition]]:
    """Every decision of a journal partition, its record, and where the chain stands after that. Raises Broken."""
    for record, batch, chain in followed(log, place, accepts_resume=accepts_resume):
        for decision in batch.decisions if batch else ():
            yield record, decision, chain.at
