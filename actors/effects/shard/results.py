"""What a shard worker tells its aggregators: measures and sums, in `partials`, each under the seal of shard workers."""

from __future__ import annotations

from collections.abc import Iterable

from actors.effects.sealing.summing import Summed
from actors.keys import PartialSeals, RoleKey
from schemas.canonical import encode
from schemas.events import Partial, PartialStored
from schemas.receipts.members import compute_members_root
from schemas.topics import PARTIALS, SHARDS, partition_of
from streams.bodies import store
from streams.log import Draft, EventLog, TopicPartition

UNSEALED = bytes(32)


class Results:
    """For one shard."""

    def __init__(self, log: EventLog, key: RoleKey) -> None:
        self.log, self._seals = log, PartialSeals(key)

    def store(self, summed: Summed, data: bytes, *, partition: int) -> None:
        """Store the sum of these members, whose bodies lie in this partition, and say so."""
        name, root = summed.created.task, compute_members_root(summed.members)
        body = store(
            self.log,
            TopicPartition(SHARDS.name, partition),
            data=data,
            upload_id=f"{name}/{summed.round_id}/{root.hex()[:16]}",
            codec="int64",
        )
        self.publish([PartialStored(task=name, round=summed.round_id, members_root=root, body=body, seal=UNSEALED)])

    def publish(self, results: Iterable[Partial]) -> None:
        """Append these, sealed."""
        drafts = [
            Draft(
                topic=PARTIALS.name,
                partition=partition_of(result.task, self.log.partitions),
                value=encode(self._seals.seal(result)),
            )
            for result in results
        ]
        if drafts:
            self.log.append(drafts)
