"""Questions to the cluster and changes of its topics, through kafka-python's admin client; used by `log` alone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Sequence

from kafka import KafkaAdminClient, errors
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from streams.kafka.errors import translate_errors
from streams.kafka.settings import REQUEST_TIMEOUT_S, KafkaSettings
from streams.log import Bounds, LogUnavailable, TopicPartition
from streams.retry import Outage
from streams.topics import TopicDescription, TopicSpec, choose_partitions, count_partitions, require_topics

# With this many brokers each partition has three copies, and a commit waits for two of them.
REPLICATED_FROM_BROKERS = 3
READY_POLL_S = 0.1
# A busy broker takes its time for a thousand partitions, and has said by then that they will be there.
CREATED_WITHIN_MS = 60_000


class KafkaAdmin:
    """One admin client, made when it is first needed. Its methods may be called from any thread."""

    def __init__(self, settings: KafkaSettings, *, outage: Outage) -> None:
        self._settings, self._outage = settings, outage
        self._lock = threading.Lock()
        # kafka-python's admin client fails with "node paused" when several threads ask for offsets at once.
        self._offset_lock = threading.Lock()
        self._admin_client: KafkaAdminClient | None = None

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """What a reader of committed records can see of each now: its end is the last stable offset."""
        if not places:
            return {}
        names = {at: self._broker_partition(at) for at in places}
        asked = ", ".join(map(str, [*places][:3]))
        with translate_errors(f"asking for the bounds of {asked}", self._outage), self._offset_lock:
            ask = self._client().list_partition_offsets
            ends = ask(dict.fromkeys(names.values(), OffsetSpec.LATEST), isolation_level="read_committed")
            beginnings = ask(dict.fromkeys(names.values(), OffsetSpec.EARLIEST))
        found = {at: Bounds(beginnings[name].offset, ends[name].offset) for at, name in names.items()}
        # The end was asked for first, and records may have been deleted since.
        return {at: Bounds(beginning, max(beginning, end)) for at, (beginning, end) in found.items()}

    def find_written_end(self, at: TopicPartition) -> int:
        """The high watermark of `at`; see `streams.log.EventLog`."""
        name = self._broker_partition(at)
        with translate_errors(f"asking for the end of {at}", self._outage), self._offset_lock:
            return int(self._client().list_partition_offsets({name: OffsetSpec.LATEST})[name].offset)

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        """The first offset of `at` that was appended at `time_ms` or later; its end when there is none."""
        name = self._broker_partition(at)
        with translate_errors(f"looking up a time in {at}", self._outage), self._offset_lock:
            offset = self._client().list_partition_offsets({name: time_ms})[name].offset
        return int(offset) if offset >= 0 else self.list_bounds([at])[at].end

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Delete every record of `at` below `before_offset`; the broker frees the space segment by segment."""
        # Without the lock: only questions for offsets disturb each other.
        with translate_errors(f"deleting records of {at}", self._outage):
            self._client().delete_records({self._broker_partition(at): before_offset})

    def wait_ready(self, timeout_s: float) -> int:
        """Wait until a broker and a controller answer; the number of brokers. Raises LogUnavailable."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(LogUnavailable), translate_errors("looking for the cluster"):
                cluster = self._client().describe_cluster()
                if cluster["brokers"] and cluster["controller_id"] >= 0:
                    return len(cluster["brokers"])
            if time.monotonic() > deadline:
                raise LogUnavailable(f"no Kafka answers at {self._settings.bootstrap_servers} within {timeout_s:.0f} s")
            time.sleep(READY_POLL_S)

    def create_topics(
        self, specs: Sequence[TopicSpec], *, partitions: int | None, replication: int | None
    ) -> list[str]:
        """Create what is missing and return its names; see `streams.kafka.log.KafkaLog`. Raises TopicUnfit."""
        # Three copies of which two must have a record: one broker may then be lost without a word.
        is_replicated = self.wait_ready(REQUEST_TIMEOUT_S) >= REPLICATED_FROM_BROKERS
        copies = replication or (3 if is_replicated else 1)
        known = self.describe_topics([spec.name for spec in specs])
        count = choose_partitions(specs, known, wanted=partitions)
        missing = [spec for spec in specs if spec.name not in known]
        if missing:
            with translate_errors("creating topics", self._outage):
                self._create(missing, count, copies=copies)
            self._wait_for_leaders([TopicPartition(spec.name, number) for spec in missing for number in range(count)])
        self.check_topics(specs)
        return [spec.name for spec in missing]

    def check_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Raise TopicUnfit, which names each missing topic, and each wrong setting of a topic or a broker."""
        found, brokers = self.describe_topics([spec.name for spec in specs]), self._describe_brokers()
        require_topics(specs, found, prefix=self._settings.topic_prefix, brokers=brokers)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of the topics that exist."""
        wanted = {self._settings.add_prefix(name): name for name in names}
        with translate_errors("describing topics", self._outage):
            rows = [row for row in self._client().describe_topics(list(wanted)) if not row["error_code"]]
            resources = [ConfigResource(ConfigResourceType.TOPIC, row["name"]) for row in rows]
            settings = self._describe_configs(resources)
        return {wanted[row["name"]]: TopicDescription(len(row["partitions"]), settings[row["name"]]) for row in rows}

    def count_partitions(self, names: Sequence[str]) -> int:
        """How many partitions these topics have, as far as one may see them. Raises TopicUnfit where they differ."""
        wanted = {self._settings.add_prefix(name): name for name in names}
        # Only what every client has rights to: a device may not read settings, nor see the journals.
        with translate_errors("counting partitions", self._outage):
            rows = self._client().describe_topics(list(wanted))
        found = {wanted[row["name"]]: len(row["partitions"]) for row in rows if not row["error_code"]}
        return count_partitions({name: found[name] for name in names if name in found})

    def list_hidden(self, names: Sequence[str]) -> list[str]:
        """Those of the topics that the brokers keep from this client; offsets of such would be waited for."""
        wanted = {self._settings.add_prefix(name): name for name in names}
        with translate_errors("describing topics", self._outage):
            rows = self._client().describe_topics(list(wanted))
        code = errors.TopicAuthorizationFailedError.errno
        return [wanted[row["name"]] for row in rows if row["error_code"] == code]

    def _describe_brokers(self) -> dict[str, dict[str, str]]:
        """The settings of each broker by its id; empty ones where the cluster does not let us read them."""
        with translate_errors("describing brokers", self._outage):
            names = [str(row["broker_id"]) for row in self._client().describe_cluster()["brokers"]]
            return self._describe_configs([ConfigResource(ConfigResourceType.BROKER, name) for name in names])

    def _describe_configs(self, resources: Sequence[ConfigResource]) -> dict[str, dict[str, str]]:
        found = self._client().describe_configs(resources, config_filter="all") if resources else {}
        # One answer for each kind of resource, and all of ours are of one kind.
        return {
            name: {key: row["value"] for key, row in config.items()}
            for configs in found.values()
            for name, config in configs.items()
        }

    def close(self) -> None:
        """Release its connections."""
        with self._lock:
            client, self._admin_client = self._admin_client, None
        if client is not None:
            client.close()

    def _create(self, specs: Sequence[TopicSpec], partitions: int, *, copies: int) -> None:
        rows = {
            self._settings.add_prefix(spec.name): {
                "num_partitions": partitions,
                "replication_factor": copies,
                "configs": {"min.insync.replicas": "2" if copies >= 3 else "1", **spec.config},
            }
            for spec in specs
        }
        for row in self._client().create_topics(rows, raise_errors=False)["topics"]:
            # Another process may have created it meanwhile, which is as good.
            if row["error_code"] not in (0, errors.TopicAlreadyExistsError.errno):
                raise errors.for_code(row["error_code"])(f"{row['name']}: {row.get('error_message')}")
        self._client().wait_for_topics(list(rows), timeout_ms=CREATED_WITHIN_MS)

    def _wait_for_leaders(self, places: Sequence[TopicPartition]) -> None:
        """Return when all of them can be asked. Raises LogUnavailable."""
        names, give_up_s = [self._broker_partition(at) for at in places], time.monotonic() + CREATED_WITHIN_MS / 1000
        while True:
            try:
                with translate_errors("waiting for new topics"), self._offset_lock:
                    self._client().list_partition_offsets(dict.fromkeys(names, OffsetSpec.LATEST))
                    return
            # On a busy machine the last of a thousand partitions gets its leader seconds later than its name.
            except LogUnavailable:
                if time.monotonic() > give_up_s:
                    raise

    def _client(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin_client is None:
                self._admin_client = KafkaAdminClient(**self._settings.client())
            return self._admin_client

    def _broker_partition(self, at: TopicPartition) -> BrokerPartition:
        return BrokerPartition(self._settings.add_prefix(at.topic), at.partition)
