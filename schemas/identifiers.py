"""Names of things: tasks, devices, leases, rounds, versions and bodies."""

from __future__ import annotations

from typing import Annotated

import msgspec

# "\Z", because "$" also matches before a newline at the end.
_NAME = "[a-z0-9][a-z0-9-]{0,62}"
# `population.task`, or a bare name, which is its own population: what stands before the dot.
TASK_PATTERN = rf"^{_NAME}(\.{_NAME})?\Z"
TaskId = Annotated[str, msgspec.Meta(pattern=TASK_PATTERN)]
Population = Annotated[str, msgspec.Meta(pattern=rf"^{_NAME}\Z")]
DeviceId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
Cohort = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,32}\Z")]
LeaseId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
UpdateId = LeaseId  # one lease allows one update, so the update needs no name of its own
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # a history holds no more; MessagePack, and so a sender, could
RoundId = Count
Version = Count
TimeMs = Count
# More would cost every worker a claim and a reader each, and nobody has needed them.
PARTITIONS_MAX = 256
PartitionCount = Annotated[int, msgspec.Meta(ge=1, le=PARTITIONS_MAX)]
Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# Random bytes that blind a digest: as many as nobody can try out.
SALT_BYTES = 16
Salt = Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
# With the prefix that names its algorithm (`schemas.devices`); one of P-256 is a byte longer.
DeviceKey = Annotated[bytes, msgspec.Meta(min_length=34, max_length=35)]
Deployment = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]  # random: one log and its actors

CHUNK_BYTES = 512 * 1024  # half of what a broker takes by default, and large enough for few requests


class BodyRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Where the bytes of a body stand, and what they must be; Kafka has no index, so the offsets are named.

    `size` and `sha256` are of the stored bytes, `codec` says how to read them; `message`: its number among many.
    """

    topic: Annotated[str, msgspec.Meta(max_length=32)]
    partition: Annotated[int, msgspec.Meta(ge=0, lt=1024)]
    offsets: Annotated[tuple[Count, ...], msgspec.Meta(max_length=4096)]
    # Every reader compares it, so that a body cannot be replaced after it was named.
    sha256: Sha256
    size: Count
    codec: Annotated[str, msgspec.Meta(max_length=16)]
    message: Count = 0

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offsets[0] if self.offsets else '?'}"

    def is_well_formed(self) -> bool:
        """As many chunks as the size asks for, each after the one before: none is named twice, no reader goes back."""
        chunks = -(-self.size // CHUNK_BYTES)
        ascending = all(a < b for a, b in zip(self.offsets, self.offsets[1:], strict=False))
        return len(self.offsets) == chunks > 0 and ascending
