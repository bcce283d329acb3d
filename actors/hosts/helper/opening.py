"""What devices have sealed to a helper: found in the members' own records, checked by signature, and added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET

from actors.deciders.masking.heard import HeardTask, Member
from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.events import MaskRefusal, UpdateAdmitted
from schemas.leases import Lease, open_lease
from schemas.masking import ring
from schemas.masking.seeds import open_seed, write_header
from schemas.tensors import BodyError, Grid
from schemas.topics import UPDATES
from schemas.updates import SignedUpdate, parse_update
from streams.log import EventLog, Record, TopicPartition, scan
from streams.packing import unpack

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seed:
    """The seed of one member's mask, and what that member counts."""

    seed: bytes
    header: bytes
    weight: int


@dataclass(slots=True)
class Opened:
    """The seeds of those members that count, or the first thing that is wrong, and with whom."""

    seeds: list[Seed]
    fault: MaskRefusal | None = None
    blamed: tuple[str, ...] = ()


class Opener:
    """Opens what is sealed to one helper of one task; `trust` says whose leases are believed.

    `models`: the one that this helper has co-signed for each version.
    """

    def __init__(
        self, task: HeardTask, helper: int, *, trust: Trust, keys: EpochKeys, models: Mapping[int, bytes]
    ) -> None:
        self._task, self._helper, self._trust, self._keys, self._models = task, helper, trust, keys, models

    def open(self, members: Sequence[Member], records: Mapping[Place, Record]) -> Opened:
        """The seeds, where every member's own record says what the aggregator says of it."""
        opened = Opened([])
        for member in members:
            admitted = member.admitted
            place = admitted.submitted_at
            found = self._open_member(admitted, None if place is UNSET else records.get(place))
            if isinstance(found, Seed):
                opened.seeds.append(found)
            elif found is not None and opened.fault in (None, found):
                opened.fault, opened.blamed = found, (*opened.blamed, admitted.update)
        return opened

    def _open_member(self, admitted: UpdateAdmitted, record: Record | None) -> Seed | MaskRefusal | None:
        """Its seed, or what is wrong; None for one that counts as zero, and is in no sum."""
        read = None if record is None else _read_signed(record, self._trust)
        if record is None or read is None:
            return "signature"
        signed, lease = read
        body = signed.locate_body(record.partition, record.offset, message=record.message)
        said = (admitted.update, admitted.device, admitted.version, admitted.subject, admitted.epoch)
        # What the aggregator says of a member, its device and the selector have to have said as well.
        signed_for = (lease.lease, lease.device, lease.version, lease.subject, lease.epoch)
        # The digest is that of the bytes that were masked, so that nobody can put another body in their place.
        if not self._is_here(lease) or said != signed_for or body.sha256 != admitted.body.sha256:
            return "signature"
        # A model that was made for one device would have its answer told by a sum that all others vouch for.
        if self._models.get(lease.version) != lease.model_sha256:
            return "model"
        return self._open_seed(admitted, signed, lease=lease) if admitted.zeroed is None else None

    def _is_here(self, lease: Lease) -> bool:
        created = self._task.created
        here = (created.deployment, created.task, created.policy_sha256)
        return (lease.deployment, lease.task, lease.policy_sha256) == here

    def _open_seed(self, admitted: UpdateAdmitted, signed: SignedUpdate, *, lease: Lease) -> Seed | MaskRefusal:
        seals, header = signed.submitted.seals, write_header(lease)
        try:
            assert lease.epoch is not UNSET
            secret = self._keys.require(self._task.created, lease.epoch)
            if seals is UNSET or len(seals) <= self._helper:
                return "seal"
            sealed, body_sha256 = seals[self._helper], admitted.body.sha256
            seed = open_seed(sealed, self._helper, header=header, body_sha256=body_sha256, secret=secret)
        except EpochKeyMissing:
            return "epoch_over"
        except BodyError:
            return "seal"
        return Seed(seed, header, admitted.weight)


def _read_signed(record: Record, trust: Trust) -> tuple[SignedUpdate, Lease] | None:
    """A device's update and its lease; None where selector or device did not sign them."""
    try:
        signed = parse_update(record.value or b"")
    except MalformedError:
        return None
    # The key is the one in the lease, as everywhere: an update cannot bring its own.
    lease = open_lease(signed.submitted.sealed, trust, at_ms=record.time_ms)
    if lease is None or lease.epoch is UNSET or not signed.is_signed_by(lease.public_key):
        return None
    return signed, lease


def read_records(log: EventLog, partition: int, *, places: Iterable[Place]) -> dict[Place, Record]:
    """The messages of `updates` at these places, as far as they are there; what lies between is read too."""
    wanted = set(places)
    at = TopicPartition(UPDATES.name, partition)
    bounds = log.bounds(at)
    # An aggregator names the places, and may name any: outside the log there is nothing to wait for.
    offsets = sorted({offset for offset, _ in wanted if bounds.beginning <= offset < bounds.end})
    return dict(_pick(log, at, offsets=offsets, wanted=wanted))


def _pick(
    log: EventLog, at: TopicPartition, *, offsets: Sequence[int], wanted: set[Place]
) -> Iterator[tuple[Place, Record]]:
    if not offsets:
        return
    named = set(offsets)
    for record in scan(log, at, start=offsets[0], end=offsets[-1] + 1):
        if record.offset in named:
            for message in unpack(record):
                if (place := (message.offset, message.message)) in wanted:
                    yield place, message


def sum_masks(seeds: Iterable[Seed], helper: int, *, parameters: int, noise: Grid | None = None) -> bytes:
    """The weighted sum of the masks modulo 2^32, less the noise of this helper, as it is stored."""
    # Less, because all of it is taken off the sum of masked vectors: what stays there is the noise.
    total = np.zeros(parameters, np.uint32) if noise is None else (-noise).astype(np.uint32)
    for seed in seeds:
        ring.add_mask(total, seed.seed, helper=helper, header=seed.header, weight=seed.weight)
    return ring.write_words(total)
