"""The kill matrix: where a process can be struck, by what, and every cell that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.places import home_of

TASK = "task"
PARTITION = home_of(TASK)

OPENING = ("fence", "claim", "replay")
DECIDING = ("decide", "begin", "append", "end", "commit", "swap", "snapshot", "manifest", "ack")

POINTS: dict[str, tuple[str, ...]] = {
    "selector": (*OPENING, *DECIDING, "abandon", "answer", "heard", "out"),
    "aggregator": (*OPENING, *DECIDING, "answer", "body", "publish", "keyed", "unkeyed", "apart", "lifted", "moved"),
    "privacy": (*OPENING, *DECIDING),
    "registrar": (*OPENING, *DECIDING, "answer"),
    "rollout": (*OPENING, *DECIDING, "ordered", "publish"),
    "device": ("granted", "trained", "kept", "stored", "addressed", "sent", "settled"),
    "helper": ("made", "shown", "cosigned", "kept", "said", "bound", "stored", "destroyed"),
    "projector": ("open", "read", "begun", "rows", "marked", "committing", "stored"),
}
"""Actor -> its crash points, each named by the step that has just been done.

fence     the transactional producer has started and fenced the one before
claim     the claim is sent, not committed
replay    some of the journal has been read back
decide    events are decided, no transaction is open
abandon   the same, where a device has given its lease up
ordered   the same, where the operator has ordered something
begin     a transaction is open and empty
append    the batch is in it, not committed
publish   the same, with the `published` record of a version, or of a step of its rollout
end       EndTxn is on its way
commit    the broker has committed, nobody has been told
answer    the devices have been told
body      a model is stored that no journal names yet
swap      the run of inputs is decided, Faust has not been told
snapshot  the bytes of a snapshot are stored, nothing names them
manifest  a snapshot is complete
ack       Faust has been told

Where the task is sealed, and another epoch begins with each version:

heard     the selector has decided that there is another epoch, or one fewer
keyed     the key of the next epoch lies in its folder, and nothing names it
unkeyed   the key of an epoch is deleted, and nothing says so

Where the task compares its members, two devices are hostile, and the operator lets in whoever is out:

apart     the members of a round are compared, and one of them is to be let in no more
lifted    the operator's word that lets it in again is decided
out       the selector has decided that a device is out

Where the task is a question, and all devices answer otherwise every few seconds:

moved     a version is decided, and with it that its answers have moved, or have no more

Of a helper, where the task is masked and each of two draws noise:

made       its key of the next epoch lies in its folder, and nobody has heard of it
shown      it will co-sign a version's model, and nothing says so
cosigned   it has said so, for a version that it is not asked about again
kept       a word is on its disk, and nobody has heard it
said       it is in the log
bound      it has said that it answers for a proposal, and the sum of masks is not there
stored     the sum is stored, and nothing names it
destroyed  its key of an epoch is deleted, and nothing says so

Of the projector, whose file is compared with one that is built at once:

open        the file of the history is open, or new
read        records are rows, nothing is stored
begun       a transaction is open and empty
rows        the rows of a table are in it
marked      all rows and the positions are in it
committing  the commit is on its way, and the file is merged with what was committed before
stored      rows and positions are on the disk
"""

FAULTS = ("kill", "stop", "broker", "cut", "reply", "unfenced")
"""SIGKILL; SIGSTOP past the session timeout, then SIGCONT; SIGKILL of the broker, and its restart; a network that holds
everything back past the session timeout and then delivers it; the reply to the next EndTxn lost; SIGSTOP of a writer
that the broker does not fence, so that only the chain tells its batches from its successor's."""

WORKERS = (1, 3)
SEALED = ("heard", "keyed", "unkeyed")
WATCHED = ("apart", "lifted", "out")
ASKED = ("moved",)
ALONE = ("device", "projector", "helper")
"""Those that write no journal of the log, and of which one is struck."""
_BEFORE_END_TXN = ("claim", "append", "publish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One experiment: `fault` strikes when `actor`, of which `workers` run, passes `point`."""

    actor: str
    point: str
    fault: str
    workers: int

    def __str__(self) -> str:
        return f"{self.actor}:{self.point}:{self.fault}:{self.workers}"

    @property
    def is_sealed(self) -> bool:
        """Whether it is about the keys of a sealed task."""
        return self.point in SEALED

    @property
    def is_masked(self) -> bool:
        """Whether its task is masked."""
        return self.actor == "helper"

    @property
    def is_watched(self) -> bool:
        """Whether it is about devices that stand apart from the others."""
        return self.point in WATCHED

    @property
    def is_asked(self) -> bool:
        """Whether its task is a question whose answers move."""
        return self.point in ASKED

    @property
    def is_released(self) -> bool:
        """Whether the versions of its task are rolled out."""
        return self.actor == "rollout"

    @property
    def series(self) -> tuple[str, str, int, str]:
        """Cells of one series can share a stage."""
        kind = "sealed" * self.is_sealed + "watched" * self.is_watched + "asked" * self.is_asked
        return self.actor, self.fault, self.workers, kind

    @property
    def is_opening(self) -> bool:
        """Whether the point is passed only when a partition is opened."""
        return self.point in (*OPENING, "open")


def cell(name: str) -> Cell:
    """The cell that is written so."""
    actor, point, fault, workers = name.split(":")
    return Cell(actor=actor, point=point, fault=fault, workers=int(workers))


def matrix() -> Iterator[Cell]:
    """Every cell, series after series."""
    for fault in FAULTS:
        for actor, points in POINTS.items():
            for workers in WORKERS:
                cells = (Cell(actor=actor, point=point, fault=fault, workers=workers) for point in points)
                yield from filter(_makes_sense, cells)


def _makes_sense(cell: Cell) -> bool:
    if cell.actor in ALONE:
        # A commit of its own file is as short as one of the broker's.
        is_signal = cell.fault in ("kill", "stop")
        return (
            cell.workers == 1 and cell.fault not in ("reply", "unfenced") and (cell.point != "committing" or is_signal)
        )
    match cell.fault:
        case "reply":
            return cell.point in _BEFORE_END_TXN
        case "unfenced":
            # Of the three only the ledger's writer tells nobody else: what it appends too late is in one topic. Before
            # its claim is sent its batch is no zombie's, and where nobody takes over there is none.
            return cell.actor == "privacy" and cell.point in ("decide", "begin") and cell.workers > 1
        case "kill" | "stop":
            return True
        case _:
            # EndTxn is under way for a few milliseconds: only a signal is quick enough.
            return cell.point != "end"
