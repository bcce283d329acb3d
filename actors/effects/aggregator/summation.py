"""How the updates of a task become the vector of a round: measure a body, add it, take the total, recompute it.

This is the seam between the log and the arithmetic. Aggregator, shard worker and full replay all go through it, so that
a new trust tier or aggregation rule is one more implementation here, chosen by `choose_summation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from actors.deciders.arithmetic import sums
from schemas.events import BodyFault, TaskCreated, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.tensors import BodyError, Grid, Quanta, read_update
from streams.bodies import Absent

Fetch = Callable[[BodyRef], bytes]


@dataclass(frozen=True, slots=True)
class Measured:
    """The vector in a body and its clip scale, or the fault of the body and what it is in words."""

    quanta: Quanta | None
    scale: int = 0
    fault: BodyFault | None = None
    why: str = ""


class RunningTotal(Protocol):
    """What is added up of one round so far; a function of the set of its members, in any order."""

    def add(self, quanta: Quanta, *, weight: int, scale: int) -> None:
        """Add the vector of a member that is not zeroed, with its weight and clip scale."""
        ...

    def total(self) -> Grid:
        """The sum so far, int64 of shape (parameters,); not to be written to."""
        ...


class Summation(Protocol):
    """One way of summing for one task. Stateless: what is under way is in a `RunningTotal`."""

    @property
    def created(self) -> TaskCreated:
        """The task, whose policy says how bodies are encoded and clipped."""
        ...

    def measure(self, body: bytes | Absent) -> Measured:
        """Open a body and take its norm: a function of its bytes and of the task's policy."""
        ...

    def start(self) -> RunningTotal:
        """The total of no members."""
        ...

    def total(self, running: RunningTotal, partials: Iterable[Grid] = ()) -> Grid:
        """The exact sum, int64 of shape (parameters,), with the sums that shard workers have made of other members."""
        ...

    def recompute(self, members: Iterable[UpdateAdmitted], fetch: Fetch) -> RunningTotal:
        """The total of these members from their bodies alone. Raises BodyLost and BodyError."""
        ...


@dataclass(frozen=True, slots=True)
class PlainSum:
    """The weighted sum of clipped plaintext vectors in int64 (law 6): tiers plain and sealed, rule mean."""

    created: TaskCreated

    def measure(self, body: bytes | Absent) -> Measured:
        """Open a body and take its norm."""
        # That a body is absent is a fact of the log and no timeout, so that it may decide an outcome (law 1).
        if isinstance(body, Absent):
            return Measured(None, fault="body_absent", why=str(body))
        policy = self.created.policy
        try:
            quanta = read_update(body, policy, parameters=self.created.parameters)
        except BodyError as error:
            return Measured(None, fault=error.fault, why=str(error))
        return Measured(quanta, sums.clip_scale(quanta, policy.clipping.steps))

    def start(self) -> sums.RunningSum:
        """Zero."""
        return sums.RunningSum(self.created.parameters)

    def total(self, running: RunningTotal, partials: Iterable[Grid] = ()) -> Grid:
        """Sums of disjoint members add up to the sum of all."""
        total = running.total()
        for partial in partials:
            # Not in place: the array belongs to the running total, which may be asked again.
            total = total + partial
        return total

    def recompute(self, members: Iterable[UpdateAdmitted], fetch: Fetch) -> sums.RunningSum:
        """Add those that are not zeroed, one after the other."""
        running = self.start()
        for member in members:
            # A zeroed member keeps its slot as a zero vector, and its body may be unreadable or not there.
            if member.zeroed is None:
                quanta = read_update(fetch(member.body), self.created.policy, parameters=self.created.parameters)
                # With the scale that the journal has fixed, as the shard workers and a full replay do.
                running.add(quanta, weight=member.weight, scale=member.clip_scale)
        return running


def choose_summation(created: TaskCreated) -> Summation:
    """The summation of a task, by its tier and rule. Policies know one of each so far."""
    return PlainSum(created)
