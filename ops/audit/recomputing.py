"""Recomputes the sums and models of one partition from the bodies, and compares them with what is recorded.

Called by `replay` for a full replay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from msgspec import UNSET
from msgspec.structs import replace

from actors.deciders.aggregator_state import MOMENTS_KEPT, Task
from actors.deciders.arithmetic import sums
from actors.deciders.arithmetic.optimizers import MOMENTS
from actors.deciders.quarantining.judging import select_apart
from actors.effects.aggregator.bodies import Bodies, BodyLost
from actors.effects.aggregator.noise_ahead import NoiseAhead
from actors.effects.aggregator.release import NoiseKeyMissing, Release, Start, compute_release
from actors.effects.aggregator.summation import NO_KEYS, Measured, Summation, choose_summation
from actors.effects.masking.unmasking import unmask_round
from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys
from actors.effects.sealing.summing import SealedReport
from actors.effects.watching.watched import Sketches
from actors.keys import NoiseKey
from ops.audit import announcements
from ops.audit.findings import Findings
from ops.audit.outliers.drift import check_found
from schemas.events import (
    JournalEvent,
    MembersCompared,
    ModelPublished,
    RoundProposed,
    SumStored,
    UpdateAdmitted,
    name_unit,
)
from schemas.identifiers import BodyRef
from schemas.policy.metrics import MetricSums, list_noised_reports, list_open_reports, sum_metrics
from schemas.tensors import (
    BodyError,
    Floats,
    Grid,
    Quanta,
    pack,
    unpack,
)
from schemas.topics import BODIES, MODELS, SHARDS, UPDATES
from streams.log import EventLog

FindNoise = Callable[[bytes, bytes], NoiseKey | None]
BODY_TOPICS = frozenset(topic.name for topic in (BODIES, MODELS, SHARDS, UPDATES))


class Recomputer:
    """Keeps of each task the newest model as recomputed. With privacy that needs the operator's key.

    A version that cannot be compared is named in `findings.unchecked` once, with the first reason.
    """

    def __init__(
        self,
        log: EventLog,
        partition: int,
        *,
        find_key: FindNoise | None,
        epoch_keys: EpochKeys = NO_KEYS,
        findings: Findings,
    ) -> None:
        self._find_key, self._epoch_keys, self._findings = find_key, epoch_keys, findings
        self._bodies = Bodies(log, partition)
        self._newest = announcements.find_newest_versions(log, partition)
        self._held: dict[str, tuple[Floats, Floats | None]] = {}
        self._released: dict[str, Release] = {}  # of the round whose version comes next
        self._reasons: dict[str, str] = {}  # why its next version cannot be compared

    def check(self, task: Task, event: SumStored | MembersCompared) -> Iterator[str]:
        """What is wrong with a sum, or with who is said to stand apart from the others of its members."""
        return self.check_sum(task, event) if isinstance(event, SumStored) else self._check_compared(task, event)

    def check_sum(self, task: Task, stored: SumStored) -> Iterator[str]:
        """What is wrong with a sum; with it the next model is made."""
        name = task.created.task
        awaited = next((pending for pending in task.pending if pending.id == stored.round), None)
        if awaited is None or awaited.proposed is None:
            yield f"round {stored.round}: was never proposed"
            return
        held = self._held.get(name)
        faults: list[str] = []
        try:
            total, metrics = self._total(task, awaited.members.values(), faults=faults)
            total = unmask_round(task.created, awaited, total=total, fetch=self._fetch)
            yield from faults
            noised = bool(list_noised_reports(task.created.policy))
            if task.created.policy.is_sealed and not noised and stored.metrics != metrics:
                yield f"round {stored.round}: its metrics are not the sums of what its members report"
            if sums.sum_digest(total) != stored.sum_sha256:
                yield f"round {stored.round}: the bodies give another sum"
            self._findings.sums += 1
            if held is None:
                self._reasons[name] = "the model before it is no longer in the log"
            # The noise is derived from the key, so without it the sum is checked and the model is not.
            elif self._find_key is None and self._draws_noise(task, awaited.proposed):
                self._reasons[name] = "needs the operator's key"
            else:
                noise, start = self._find_noise(task, awaited.proposed), Start(*held, task.version)
                released = compute_release(task.created, awaited.proposed, total=total, start=start, noise=noise)
                self._released[name] = released
                if noised and stored.metrics != released.metrics:
                    yield f"round {stored.round}: its metrics are not those of its release"
        except (BodyLost, EpochKeyMissing) as error:
            self._reasons[name] = str(error)
        except BodyError as error:
            # Published with masks that no longer give a sum.
            yield f"round {stored.round}: {error}"
        except NoiseKeyMissing as error:
            self._reasons[name] = str(error)
            yield f"{error}; this is not the operator's key of that time"

    def _check_compared(self, task: Task, told: MembersCompared) -> Iterator[str]:
        """Whether others stand apart in a round than it says, by the bodies and its own seed."""
        members = [each for pending in task.pending if pending.id == told.round for each in pending.members.values()]
        summation, sketches = choose_summation(task.created, self._epoch_keys), Sketches(task.created, told.seed)
        try:
            for member in members:
                found = summation.measure(self._fetch(member.body), member)
                if found.quanta is not None:
                    sketches.add(found.quanta, update=member.update, scale=member.clip_scale)
        # What is wrong with a body, or that it has left, is told with the sum of the round.
        except (BodyLost, BodyError, EpochKeyMissing):
            return
        suspects = {} if task.watch is UNSET else task.watch.suspects
        lost = set[str]()
        recall = partial(self._recall, summation, lost=lost)
        compared = sketches.compare_past(sketches.compare(members), suspects, recall=recall)
        # What a device sent before may have left by now: then what was told of it is believed.
        known = tuple(replace(one, past=UNSET) if name_unit(one) in lost else one for one in told.anomalies)
        if select_apart(compared.scores, task.created.policy) != known:
            yield f"round {told.round}: by the bodies others stand apart, or in another way"

    def _recall(self, summation: Summation, member: UpdateAdmitted, *, lost: set[str]) -> Quanta | None:
        try:
            return summation.measure(self._fetch(member.body), member).quanta
        except (BodyLost, EpochKeyMissing):
            lost.add(name_unit(member))
            return None

    def _draws_noise(self, task: Task, proposed: RoundProposed) -> bool:
        """Whether the aggregator has drawn it; a helper's is in its masks, which are here."""
        return proposed.mechanism is not None and task.created.policy.masked_by.noise != "helpers"

    def _find_noise(self, task: Task, proposed: RoundProposed) -> NoiseAhead | None:
        if self._find_key is None or proposed.mechanism is None or not self._draws_noise(task, proposed):
            return None
        key = self._find_key(task.created.deployment, proposed.mechanism.key_id)
        return None if key is None else NoiseAhead(key)

    def _total(
        self, task: Task, members: Iterable[UpdateAdmitted], *, faults: list[str]
    ) -> tuple[Grid, MetricSums | None]:
        """The sum of the members, each measured again, and of what they report inside their bodies.

        Raises BodyLost where retention has taken one, EpochKeyMissing where its key is not at hand.
        """
        summation = choose_summation(task.created, self._epoch_keys)
        running, reports = summation.start(), list[SealedReport]()
        for member in members:
            where = f"update {member.update}"
            try:
                found = summation.measure(self._fetch(member.body), member)
            except (BodyError, BodyLost) as error:
                # A body that retention deleted is no fault, but without it there is no sum to compare.
                if member.zeroed is None and isinstance(error, BodyLost) and error.deleted:
                    raise
                found = Measured(None, why=str(error))
            if found.quanta is None:
                if member.zeroed is None:
                    faults.append(f"{where}: {found.why}")
            elif member.zeroed is not None:
                # A defect is an error of our own code, so the body may well be whole.
                if member.zeroed != "defect":
                    faults.append(f"{where}: zeroed as {member.zeroed}, and nothing is wrong with it")
            else:
                if found.scale != member.clip_scale:
                    faults.append(f"{where}: clip scale {member.clip_scale}, the body gives {found.scale}")
                running.add(found.quanta, update=member.update, weight=member.weight, scale=found.scale)
                reports.append(SealedReport(found.metrics, member.samples))
        return summation.total(running), sum_metrics(reports, count=len(list_open_reports(task.created.policy)))

    def _fetch(self, ref: BodyRef) -> bytes:
        # The reference stands in a record that may be forged, and must not make us read any topic.
        if ref.topic not in BODY_TOPICS:
            raise BodyError("body_malformed", f"{ref.topic} holds no bodies")
        return self._bodies.fetch(ref)

    def check_model(self, task: Task, published: ModelPublished) -> Iterator[str]:
        """What is wrong with a published version."""
        name = published.task
        released, reason = self._released.pop(name, None), self._reasons.pop(name, "no sum of it is recorded")
        self._findings.models += released is not None
        held: list[Floats | None] = []
        for part, ref in (("model", published.model), ("moments", published.moments)):
            faults: list[str] = []
            stored, lost = self._read_stored(task, ref, part=part, faults=faults) if ref else (None, "")
            expected = getattr(released, part) if released else stored
            # A body that cannot be read is reported as such; comparing it too would say the same twice.
            if released and not faults and not lost and _differ(expected, stored):
                faults.append(f"the round gives another {part}")
            if part == "model":
                is_same = lost == "" or (released is not None and _is_body(released.model, published.model))
                self._count(
                    published, is_compared=released is not None and is_same, reason=lost if released else reason
                )
            yield from (f"version {published.version}: {fault}" for fault in faults)
            held.append(expected)
        # The next round starts from this version, recomputed where that was possible, else as stored.
        self._held.pop(name, None)
        if held[0] is not None:
            self._held[name] = (held[0], held[1])

    def check_drift(self, task: Task, published: ModelPublished, *, decision: Sequence[JournalEvent]) -> Iterator[str]:
        """What is wrong with what is said of drift, once the model of a version is checked."""
        held = self._held.get(published.task)
        # What was lost is told with the model.
        if held is not None:
            yield from check_found(task, published, vector=held[0], decision=decision, fetch=self._fetch)

    def _count(self, published: ModelPublished, *, is_compared: bool, reason: str) -> None:
        """Version 0 is the operator's own model, so there is nothing to recompute it from."""
        is_made = published.round is not None
        self._findings.versions += is_made
        self._findings.compared += is_made and is_compared
        if is_made and not is_compared:
            self._findings.unchecked.append(f"{published.task}/{published.version} ({reason})")

    def _read_stored(self, task: Task, ref: BodyRef, *, part: str, faults: list[str]) -> tuple[Floats | None, str]:
        """A published vector, or why it cannot be read: a fault for as long as the policy keeps it."""
        moments = task.created.trained * MOMENTS[task.created.policy.optimizer.rule]
        count = task.created.parameters if part == "model" else moments
        try:
            return unpack(self._fetch(ref), "float32", count=count), ""
        except (BodyError, BodyLost) as error:
            if isinstance(error, BodyError) or error.altered or self._is_kept(task, task.version + 1, part=part):
                faults.append(f"its {part} cannot be read: {error}")
            return None, str(error)

    def _is_kept(self, task: Task, version: int, *, part: str) -> bool:
        """Whether the policy still keeps this body, as far as `published` tells how many versions came after it."""
        retention, newest = task.created.policy.retention, self._newest.get(task.created.task, 0)
        if part == "moments":
            return version > newest - MOMENTS_KEPT
        is_milestone = retention.milestone_every and version % retention.milestone_every == 0
        return bool(is_milestone) or version > newest - retention.models_kept


def _differ(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.tobytes() != other.tobytes()


def _is_body(model: Floats, ref: BodyRef) -> bool:
    """Whether a body that has left was this model: proven where the same compression gives the same digest."""
    return hashlib.sha256(pack(model)).digest() == ref.sha256
