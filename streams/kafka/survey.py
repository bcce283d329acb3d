"""What a cluster says of itself, for whoever asks whether it is well: brokers, copies, groups, transactions, rights.

Each question may be refused by itself, because many clusters let nobody ask all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from kafka import KafkaAdminClient, errors
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from streams.kafka.access import Grant, read_rules
from streams.kafka.errors import translate_errors
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition
from streams.topics import TopicDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDisk:
    """The disk of one folder of a broker, in bytes; zeros where the broker is too old to say."""

    path: str
    size: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker; `release` is the newest that has what it can do."""

    id: int
    release: tuple[int, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[LogDisk, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTopic:
    """A topic, and how many of its partitions have no leader, or lack a copy."""

    described: TopicDescription
    leaderless: int = 0
    under_replicated: int = 0

    @property
    def partitions(self) -> int:
        """How many it has."""
        return self.described.partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The workers of one kind: how many are alive, and up to where they have acknowledged their inputs."""

    members: int
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """The first open transaction of a partition: where it begins, and when its producer last wrote."""

    offset: int
    last_ms: int | None


class Survey:
    """Questions to a cluster; use it as a context. Each raises LogUnavailable, or LogRefused where one may not ask."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        with translate_errors("looking for the cluster"):
            self._admin = KafkaAdminClient(**settings.client())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def list_brokers(self) -> list[Broker]:
        """The brokers, with their releases."""
        with translate_errors("describing the cluster"):
            found = self._admin.describe_cluster()["brokers"]
            ids = [int(row["broker_id"]) for row in found]
            return [Broker(id=each, release=self._find_release(each)) for each in ids]

    def list_configs(self) -> dict[int, dict[str, str]]:
        """The settings of each broker."""
        with translate_errors("describing brokers"):
            ids = [str(row["broker_id"]) for row in self._admin.describe_cluster()["brokers"]]
            found = self._describe([ConfigResource(ConfigResourceType.BROKER, each) for each in ids])
        return {int(name): config for name, config in found.items()}

    def list_disks(self) -> dict[int, tuple[LogDisk, ...]]:
        """The disks of each broker."""
        with translate_errors("asking for disks"):
            found = self._admin.describe_log_dirs()
        return {row["broker"]: tuple(_read_disk(each) for each in row["log_dirs"]) for row in found}

    def describe_topics(self, names: Collection[str]) -> dict[str, ClusterTopic]:
        """Those of the topics that exist."""
        wanted = {self._settings.add_prefix(name): name for name in names}
        with translate_errors("describing topics"):
            rows = [row for row in self._admin.describe_topics(list(wanted)) if not row["error_code"]]
            configs = self._describe([ConfigResource(ConfigResourceType.TOPIC, row["name"]) for row in rows])
        return {wanted[row["name"]]: _read_topic(row, configs[row["name"]]) for row in rows}

    def list_ends(self, places: Collection[TopicPartition], *, committed: bool = True) -> dict[TopicPartition, int]:
        """Up to where readers of committed records see each, or how far it was written."""
        level = "read_committed" if committed else "read_uncommitted"
        return {at: row.offset for at, row in self._list_offsets(places, OffsetSpec.LATEST, level=level).items()}

    def list_firsts_since(self, places: Collection[TopicPartition], time_ms: int) -> dict[TopicPartition, int]:
        """The first offset that was appended at `time_ms` or later, of those places where anything was."""
        return {at: row.offset for at, row in self._list_offsets(places, time_ms).items() if row.offset >= 0}

    def find_newest_ms(self, places: Collection[TopicPartition]) -> int | None:
        """The latest append time in these places; None where nothing stands in them."""
        found = self._list_offsets(places, OffsetSpec.MAX_TIMESTAMP).values()
        return max((int(row.timestamp) for row in found if row.offset >= 0), default=None)

    def list_open(self, places: Collection[TopicPartition]) -> dict[TopicPartition, OpenTransaction]:
        """Those of the places in which a transaction is open."""
        names = {self._name(at): at for at in places}
        if not names:
            return {}
        with translate_errors("asking for transactions"):
            found = self._admin.describe_producers(list(names))
        opened = {names[name]: _find_first(state.active_producers) for name, state in found.items()}
        return {at: first for at, first in opened.items() if first is not None}

    def list_groups(self, names: Collection[str]) -> dict[str, Group]:
        """The groups of workers by their names; one without members has nobody alive."""
        return {name: self._find_group(name) for name in names}

    def _find_group(self, name: str) -> Group:
        asked, prefix = self._settings.add_prefix(name), self._settings.add_prefix("")
        with translate_errors("asking for groups"):
            try:
                described = self._admin.describe_groups([asked])[asked]
                offsets = self._admin.list_group_offsets({asked: None})[asked]
            # A cluster on which no group has ever been makes the place for them now, and a newer one knows it by name.
            except (errors.CoordinatorNotAvailableError, errors.NotCoordinatorError, errors.GroupIdNotFoundError):
                return Group(members=0)
        reached = {TopicPartition(at.topic.removeprefix(prefix), at.partition): row for at, row in offsets.items()}
        return Group(members=len(described["members"]), offsets={at: row.offset for at, row in reached.items()})

    def list_rules(self) -> list[Grant] | None:
        """Every rule of access. None where the brokers have no authorizer."""
        with translate_errors("asking for rights"):
            try:
                return read_rules(self._admin)
            except errors.SecurityDisabledError:
                return None

    def _find_release(self, broker: int) -> tuple[int, ...]:
        return tuple(self._admin.get_broker_version_data(broker).broker_version)

    def _describe(self, resources: list[ConfigResource]) -> dict[str, dict[str, str]]:
        found = self._admin.describe_configs(resources, config_filter="all") if resources else {}
        return {
            name: {key: row["value"] for key, row in config.items()}
            for configs in found.values()
            for name, config in configs.items()
        }

    def _list_offsets(
        self, places: Collection[TopicPartition], spec: object, *, level: str = "read_committed"
    ) -> dict[TopicPartition, Any]:
        names = {self._name(at): at for at in places}
        if not names:
            return {}
        with translate_errors("asking for offsets"):
            found = self._admin.list_partition_offsets(dict.fromkeys(names, spec), isolation_level=level)
        return {names[name]: row for name, row in found.items()}

    def _name(self, at: TopicPartition) -> BrokerPartition:
        return BrokerPartition(self._settings.add_prefix(at.topic), at.partition)


def _read_disk(row: Mapping[str, Any]) -> LogDisk:
    size, left = row.get("total_bytes") or 0, row.get("usable_bytes") or 0
    return LogDisk(path=str(row["log_dir"]), size=max(0, size), left=max(0, left))


def _read_topic(row: Mapping[str, Any], config: Mapping[str, str]) -> ClusterTopic:
    parts = row["partitions"]
    return ClusterTopic(
        described=TopicDescription(len(parts), config),
        leaderless=sum(part["leader_id"] < 0 for part in parts),
        under_replicated=sum(len(part["isr_nodes"]) < len(part["replica_nodes"]) for part in parts),
    )


def _find_first(producers: Collection[Any]) -> OpenTransaction | None:
    opened = [each for each in producers if each.current_transaction_start_offset >= 0]
    if not opened:
        return None
    first = min(opened, key=lambda each: each.current_transaction_start_offset)
    last_ms = first.last_timestamp if first.last_timestamp > 0 else None
    return OpenTransaction(offset=first.current_transaction_start_offset, last_ms=last_ms)
