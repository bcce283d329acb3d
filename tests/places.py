"""Where things live on the clusters of tests, which have as many partitions as one gets that names no number."""

from __future__ import annotations

from schemas.topics import PARTITIONS_DEFAULT, answer_partition, partition_of

PARTITIONS = PARTITIONS_DEFAULT


def home_of(task: str) -> int:
    """The partition of a task."""
    return partition_of(task, PARTITIONS)


def answer_home(device: str) -> int:
    """The partition in which a device hears its answers."""
    return answer_partition(device, PARTITIONS)
