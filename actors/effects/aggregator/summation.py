"""How the updates of a task become the vector of a round: measure a body, add it, take the total, recompute it.

This is the seam between the log and the arithmetic. Aggregator, shard worker and full replay all go through it, so that
a new trust tier or aggregation rule is one more implementation here, chosen by `choose_summation`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.deciders.arithmetic import robust, sums
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.effects.sealing.opening import Bound, open_contents
from actors.effects.watching.watched import watch
from schemas.events import BodyFault, TaskCreated, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.masking import ring
from schemas.policy import Policy
from schemas.tensors import BodyError, Grid, Quanta, clipping, read_update
from streams.bodies import Absent

Fetch = Callable[[BodyRef], bytes]
Note = Callable[[UpdateAdmitted, tuple[int, ...]], None]

NO_KEYS = EpochKeys(None)
KEPT_IN_MEMORY_BYTES = 8 * 2**20
# Elements of all members that are compared at once: 64 bits each, and a few copies of them.
PIECE_ELEMENTS = 1 << 20
_ELEMENT = np.dtype("<i4")


def ignore(member: UpdateAdmitted, metrics: tuple[int, ...]) -> None:
    """For whoever asks for the sum alone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The vector in a body and its clip scale, or the fault of the body and what it is in words."""

    quanta: Quanta | None
    scale: int = 0
    fault: BodyFault | None = None
    why: str = ""
    # What the device reports inside a sealed body.
    metrics: tuple[int, ...] = ()


class RunningTotal(Protocol):
    """What there is of one round so far; a function of the set of its members, in any order."""

    def add(self, quanta: Quanta, *, update: str, weight: int, scale: int) -> None:
        """Add the vector of a member that is not zeroed, with its weight and clip scale."""
        ...

    def total(self) -> Grid:
        """The sum so far, int64 of shape (parameters,); not to be written to.

        Of a robust rule it is the location that the rule finds, times the sum of the weights.
        """
        ...


class Summation(Protocol):
    """One way of summing for one task. Stateless: what is under way is in a `RunningTotal`."""

    @property
    def created(self) -> TaskCreated:
        """The task, whose policy says how bodies are encoded and clipped."""
        ...

    def measure(self, body: bytes | Absent, bound: Bound | None = None) -> Measured:
        """Open a body and take its norm: a function of its bytes, of the task's policy, and of what it is `bound` to.

        Raises EpochKeyMissing.
        """
        ...

    def start(self) -> RunningTotal:
        """The total of no members."""
        ...

    def total(self, running: RunningTotal, partials: Iterable[Grid] = ()) -> Grid:
        """The exact sum, int64 of shape (parameters,), with the sums that shard workers have made of other members."""
        ...

    def recompute(self, members: Iterable[UpdateAdmitted], fetch: Fetch, *, note: Note = ignore) -> RunningTotal:
        """The total of these members from their bodies alone. Raises BodyLost, BodyError and EpochKeyMissing.

        `note` gets what each reports inside its body.
        """
        ...


@dataclass(frozen=True, slots=True)
class PlainSum:
    """The weighted sum of clipped vectors in int64 (law 6): rule mean. With `keys` also of a sealed task."""

    created: TaskCreated
    keys: EpochKeys = NO_KEYS

    def measure(self, body: bytes | Absent, bound: Bound | None = None) -> Measured:
        """Open a body and take its norm."""
        # That a body is absent is a fact of the log and no timeout, so that it may decide an outcome (law 1).
        if isinstance(body, Absent):
            return Measured(None, fault="body_absent", why=str(body))
        try:
            quanta, metrics = self._open(body, bound)
        except BodyError as error:
            return Measured(None, fault=error.fault, why=str(error))
        return Measured(quanta, clipping.clip_scale(quanta, self.created.policy.clipping.steps), metrics=metrics)

    def start(self) -> RunningTotal:
        """Zero."""
        return watch(self.created, sums.RunningSum(self.created.parameters))

    def total(self, running: RunningTotal, partials: Iterable[Grid] = ()) -> Grid:
        """Sums of disjoint members add up to the sum of all."""
        total = running.total()
        for partial in partials:
            # Not in place: the array belongs to the running total, which may be asked again.
            total = total + partial
        return total

    def recompute(self, members: Iterable[UpdateAdmitted], fetch: Fetch, *, note: Note = ignore) -> RunningTotal:
        """Add those that are not zeroed, one after the other."""
        running = self.start()
        for member in members:
            # A zeroed member keeps its slot as a zero vector, and its body may be unreadable or not there.
            if member.zeroed is None:
                quanta, metrics = self._open(fetch(member.body), member)
                # With the scale that the journal has fixed, as the shard workers and a full replay do.
                running.add(quanta, update=member.update, weight=member.weight, scale=member.clip_scale)
                note(member, metrics)
        return running

    def _open(self, body: bytes, bound: Bound | None) -> tuple[Quanta, tuple[int, ...]]:
        """The vector in a body, and the metrics in a sealed one. Raises BodyError, EpochKeyMissing."""
        metrics: tuple[int, ...] = ()
        if bound is not None:
            contents = open_contents(self.created, body, bound=bound, keys=self.keys)
            body, metrics = contents.body, contents.metrics
        return read_update(body, self.created.policy, parameters=self.created.parameters), metrics


@dataclass(frozen=True, slots=True)
class Comparison(PlainSum):
    """A robust rule: the vectors of all members are kept, and compared when the round is proposed."""

    def start(self) -> RunningTotal:
        """No vectors."""
        return watch(self.created, KeptVectors(self.created.policy, self.created.parameters))


class KeptVectors:
    """The clipped vectors of a round's members so far; see `robust.Members`.

    Above a few megabytes they lie on disk, and are read back in blocks of columns, so that the memory of a round does
    not grow with its members. The file has no name: it goes with the process, however that ends.
    """

    def __init__(self, policy: Policy, parameters: int) -> None:
        self.parameters = parameters
        self._policy = policy
        self._file = tempfile.SpooledTemporaryFile(max_size=KEPT_IN_MEMORY_BYTES)  # noqa: SIM115
        self._rows: dict[str, tuple[int, int]] = {}  # place in the file, and weight

    def add(self, quanta: Quanta, *, update: str, weight: int, scale: int) -> None:
        """Clip one update by its scale, and keep it."""
        row = len(self._rows)
        self._file.seek(row * self.parameters * _ELEMENT.itemsize)
        self._file.write(clipping.clip(quanta, scale).astype(_ELEMENT, copy=False).tobytes())
        self._rows[update] = row, weight

    @property
    def weights(self) -> Grid:
        """Of each member, in the order of their update ids."""
        return np.array([weight for _, (_, weight) in sorted(self._rows.items())], np.int64)

    def pieces(self) -> Iterator[tuple[slice, Grid]]:
        """Blocks of columns, of all members in the order of their update ids."""
        rows = [row for _, (row, _) in sorted(self._rows.items())]
        width = max(1, PIECE_ELEMENTS // len(rows))
        for start in range(0, self.parameters, width):
            end = min(start + width, self.parameters)
            yield slice(start, end), np.array([self._read(row, start=start, end=end) for row in rows], np.int64)

    def total(self) -> Grid:
        """The location that the policy's rule finds, times the sum of the weights."""
        if not self._rows:
            return np.zeros(self.parameters, np.int64)
        return compare(self, self._policy)

    def _read(self, row: int, *, start: int, end: int) -> npt.NDArray[np.int32]:
        self._file.seek((row * self.parameters + start) * _ELEMENT.itemsize)
        return np.frombuffer(self._file.read((end - start) * _ELEMENT.itemsize), _ELEMENT)


def compare(members: robust.Members, policy: Policy) -> Grid:
    """The location that the policy's robust rule finds among some members, times the sum of their weights."""
    asked = policy.withstood_by
    match policy.aggregation.rule:
        case "median":
            return robust.median(members)
        case "trimmed_mean":
            return robust.trim_mean(members, f=asked.attackers_max)
        case "centered_clipping":
            radius = max(1, round(asked.radius * policy.clipping.steps))
            return robust.clip_centered(members, radius=radius, iterations=asked.iterations)
        case rule:
            selected = asked.selected if rule == "multi_krum" else 1
            return robust.krum(members, f=asked.attackers_max, selected=selected)


class RingTotal:
    """The weighted sum of masked vectors modulo 2^32, which says nothing before its masks are off."""

    def __init__(self, parameters: int) -> None:
        self._words = np.zeros(parameters, np.uint32)

    def add(self, quanta: Quanta, *, update: str, weight: int, scale: int) -> None:
        """Add a masked vector; its device has clipped it, and nobody else can."""
        del update, scale
        ring.add_weighted(self._words, quanta.values.view(np.uint32), weight=weight)

    def total(self) -> Grid:
        """The sum so far, each element in 0 ... 2^32 - 1."""
        return self._words.astype(np.int64)


@dataclass(frozen=True, slots=True)
class MaskedSum:
    """The weighted sum of masked vectors; `masking.unmask_round` takes the masks off."""

    created: TaskCreated

    def measure(self, body: bytes | Absent, bound: Bound | None = None) -> Measured:
        """Its length is all that can be told of a masked vector."""
        if isinstance(body, Absent):
            return Measured(None, fault="body_absent", why=str(body))
        try:
            words = ring.read_words(body, parameters=self.created.parameters)
        except BodyError as error:
            return Measured(None, fault=error.fault, why=str(error))
        return Measured(Quanta.from_values(words.view(np.int32)), clipping.SCALE_ONE)

    def start(self) -> RunningTotal:
        """Zero."""
        return RingTotal(self.created.parameters)

    def total(self, running: RunningTotal, partials: Iterable[Grid] = ()) -> Grid:
        """Sums of disjoint members add up modulo 2^32, which whoever takes the masks off reduces by."""
        total = running.total()
        for partial in partials:
            total = total + partial
        return total

    def recompute(self, members: Iterable[UpdateAdmitted], fetch: Fetch, *, note: Note = ignore) -> RunningTotal:
        """Add those that are not zeroed, one after the other."""
        running = self.start()
        for member in members:
            if member.zeroed is None:
                found = self.measure(fetch(member.body))
                if found.quanta is None:
                    raise BodyError("body_malformed", found.why)
                running.add(found.quanta, update=member.update, weight=member.weight, scale=found.scale)
        return running


def choose_summation(created: TaskCreated, keys: EpochKeys = NO_KEYS) -> Summation:
    """The summation of a task, by its tier and rule; `keys` open the bodies of a sealed one."""
    if created.policy.is_masked:
        return MaskedSum(created)
    return PlainSum(created, keys) if created.policy.aggregation.rule == "mean" else Comparison(created, keys)
