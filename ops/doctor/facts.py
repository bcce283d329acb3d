"""What was seen of a deployment, as plain values: checks take them, and tests write them down."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streams.kafka.access import Grant
from streams.kafka.survey import Broker, ClusterTopic, Group, OpenTransaction
from streams.log import TopicPartition

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From where on something is a finding."""

    # Each is where somebody should get up, and not where something is merely not as it was.
    hanging_s: float = 30.0  # longer than anybody's transaction may last
    waiting_s: float = 60.0  # how long an input may wait for its actor
    behind_s: float = 30.0  # how long a record may wait for the history, which nothing holds up but its own process
    clocks_differ_s: float = 5.0
    disk_left_low: float = 0.1  # of the whole disk
    disk_left_least: float = 0.03
    certificate_days: float = 30.0
    unsnapshot_offsets: int = 50_000  # that a restart would have to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk: bytes in all, and those left."""

    place: str
    size: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateFile:
    """A file or folder with secrets, and its mode."""

    path: str
    mode: int
    is_folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """Something that is good until a day; `renew` is the command that makes it last longer."""

    what: str
    until_ms: int
    renew: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The newest records of a journal partition, followed along their chain. `position`: the actor's, by input.

    `fault` says why the record at `offset` is off the chain, `defects` counts inputs on which our code failed;
    `is_private` where a round was proposed that has to be charged.
    """

    at: TopicPartition
    position: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""
    offset: int = 0
    strangers: int = 0
    defects: int = 0
    is_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSeen:
    """The newest snapshot of an actor: the offset in its journal, and whether this release's code made it."""

    actor: str
    partition: int
    offset: int
    is_of_this_code: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The history of this folder: how far it is in its `topics`; `is_followed` while a process keeps it up."""

    path: str
    topics: tuple[str, ...] = ()
    marks: Offsets = field(default_factory=dict)
    is_followed: bool = False
    unreadable: str = ""

    def find_unread(self, ends: Offsets) -> dict[TopicPartition, int]:
        """How many offsets up to these ends are not in it; a partition of which it has nothing has no mark."""
        return {at: max(0, end - self.marks.get(at, 0)) for at, end in ends.items() if at.topic in self.topics}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the brokers said. `denied` has what could not be asked, by family.

    `ends` are those that readers see, `written` those of what was written; `recent` the first offset that was appended
    within `Limits.waiting_s`, and `recent_for_history` within `Limits.behind_s`; `rules` None where the brokers allow
    everybody everything.
    """

    brokers: tuple[Broker, ...] = ()
    topics: Mapping[str, ClusterTopic] = field(default_factory=dict)
    ends: Offsets = field(default_factory=dict)
    written: Offsets = field(default_factory=dict)
    recent: Offsets = field(default_factory=dict)
    recent_for_history: Offsets = field(default_factory=dict)
    open: Mapping[TopicPartition, OpenTransaction] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    rules: Collection[Grant] | None = None
    newest_ms: int | None = None
    denied: Mapping[str, str] = field(default_factory=dict)

    @property
    def partitions(self) -> int:
        """How many every topic has, or should."""
        return next((topic.partitions for topic in self.topics.values()), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything. `cluster` is None where no broker answers; `unreachable` says why then."""

    now_ms: int
    servers: str = ""
    prefix: str = "fedlog"
    unreachable: str = ""
    is_loopback: bool = True
    cluster: Cluster | None = None
    tails: tuple[Tail, ...] = ()
    snapshots: tuple[SnapshotSeen, ...] = ()
    disks: tuple[Disk, ...] = ()
    private_files: tuple[PrivateFile, ...] = ()
    expiring: tuple[Expiring, ...] = ()
    projection: Projection | None = None

    def add_prefix(self, name: str) -> str:
        """The name of a topic or group on the brokers."""
        return f"{self.prefix}.{name}" if self.prefix else name
