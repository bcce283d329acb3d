"""Looks at a deployment once: the cluster, the newest records of its journals, its history, and this machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from actors.wiring import ROLES
from ops.audit.verification import make_trust
from ops.doctor import local
from ops.doctor.facts import Cluster, Facts, Limits, Offsets, Projection, SnapshotSeen, Tail
from ops.doctor.tails import find_claim, follow_tail
from ops.opening import find_operator
from ops.settings import HISTORY_FILE, Settings, SettingsError
from schemas.canonical import MalformedError, decode
from schemas.certificates import parse_certified
from schemas.errors import FedlogError
from schemas.journal import Snapshot
from schemas.topics import CATALOGUE, CHECKINS, JOURNALS, SNAPSHOTS, UPDATES
from streams.kafka.survey import Survey
from streams.log import EventLog, LogError, Record, TopicPartition

# Enough for the batches of some seconds; what is older `fedlog verify` follows.
TAIL_OFFSETS = 100
SNAPSHOT_OFFSETS = 64
# A partition that cannot be read by then, readers are held back: the transactions say why.
READ_S = 10.0
ASK_S = 5.0  # for a history that another process keeps
# What `doctor` asks for beside the topics, and goes on without.
BROKER_NAMES = ("127.0.0.1", "localhost", "[::1]")

T = TypeVar("T")


class _Asking:
    """Asks for one thing after the other, and keeps what got no answer by its family."""

    def __init__(self) -> None:
        self.denied: dict[str, str] = {}

    def __call__(self, family: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except LogError as error:
            self.denied[family] = str(error)
            return None


def gather(settings: Settings, limits: Limits | None = None) -> Facts:
    """Everything that checks look at. A cluster that is away, or lets us see little, is a fact too."""
    limits = limits or Limits()
    facts = gather_briefly(settings, limits)
    tails: tuple[Tail, ...] = ()
    snapshots: tuple[SnapshotSeen, ...] = ()
    if facts.cluster is not None and facts.cluster.ends:
        # Only now: a log waits for its broker, and would never say that there is none.
        with closing(settings.log("fedlog-doctor")) as log:
            tails = tuple(_read_tails(log, settings, ends=facts.cluster.ends))
            snapshots = tuple(_read_snapshots(log, facts.cluster.ends, limits=limits))
    return replace(
        facts,
        tails=tails,
        snapshots=snapshots,
        disks=tuple(local.list_disks(settings)),
        private_files=tuple(local.list_private_files(settings)),
        expiring=tuple(local.list_expiring(settings)),
    )


def gather_briefly(settings: Settings, limits: Limits | None = None) -> Facts:
    """What can be known within a second: the cluster's own words, and how far the history is."""
    limits, now_ms = limits or Limits(), time.time_ns() // 1_000_000
    cluster, why, servers = None, "", settings.bootstrap_servers
    try:
        kafka = settings.kafka("fedlog-status")
        servers = kafka.bootstrap_servers
        with Survey(kafka) as survey:
            cluster = ask_cluster(survey, now_ms=now_ms, limits=limits)
    except (LogError, SettingsError) as error:
        why = " ".join(str(error).split())
    return Facts(
        now_ms=now_ms,
        servers=servers,
        prefix=settings.topic_prefix,
        unreachable=why,
        is_loopback=servers.startswith(BROKER_NAMES),
        cluster=cluster,
        projection=read_projection(settings.folder / HISTORY_FILE),
    )


def add_tails(settings: Settings, facts: Facts) -> Facts:
    """The same with what the journals say: a group that was told its offsets may not have committed them for hours."""
    if facts.cluster is None or facts.tails:
        return facts
    with closing(settings.log("fedlog-status")) as log:
        return replace(facts, tails=tuple(_read_tails(log, settings, ends=facts.cluster.ends)))


def ask_cluster(survey: Survey, *, now_ms: int, limits: Limits) -> Cluster:
    """What the brokers say. Raises LogUnavailable."""
    ask = _Asking()
    # Where this gets no answer there is no cluster; whatever is refused after it leaves the rest to be looked at.
    brokers = survey.list_brokers()
    configs = ask("settings of brokers", survey.list_configs) or {}
    disks = ask("disks", survey.list_disks) or {}
    topics = ask("topics", lambda: survey.describe_topics([topic.name for topic in CATALOGUE])) or {}
    places = [TopicPartition(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
    ends = ask("offsets", lambda: survey.list_ends(places)) or {}
    written = ask("offsets", lambda: survey.list_ends(places, committed=False)) or {}
    held = [at for at in ends if written.get(at, 0) > ends[at]]
    told = (CHECKINS.name, UPDATES.name, *(topic.name for topic in JOURNALS))
    newest_ms = ask("clocks", lambda: survey.find_newest_ms([at for at in places if at.topic in told]))
    # The brokers' clock where it is ahead of ours: with ours alone nothing would seem to wait.
    latest_ms = max(now_ms, newest_ms or 0)

    def find_recent(within_s: float) -> Offsets:
        firsts = ask("offsets", lambda: survey.list_firsts_since(places, latest_ms - int(within_s * 1000))) or {}
        # Of what a transaction hides nobody can say anything, however old it is.
        return {at: min(end, firsts.get(at, end)) for at, end in ends.items()}

    return Cluster(
        brokers=tuple(replace(each, config=configs.get(each.id, {}), disks=disks.get(each.id, ())) for each in brokers),
        topics=topics,
        ends=ends,
        written=written,
        recent=find_recent(limits.waiting_s),
        recent_for_history=find_recent(limits.behind_s),
        open=ask("transactions", lambda: survey.list_open(held)) or {},
        groups=ask("groups", lambda: survey.list_groups(list(ROLES))) or {},
        rules=ask("rights", survey.list_rules),
        newest_ms=newest_ms,
        denied=ask.denied,
    )


def read_projection(path: Path) -> Projection | None:
    """How far the history at `path` is; None where there is none."""
    if not path.exists():
        return None
    from ops.history.tables import serving
    from ops.history.tables.projector import TOPICS

    sql = 'SELECT topic, partition, "offset" FROM marks'
    # DuckDB lets nobody in while a process writes, and that one answers.
    is_followed = serving.is_served(path)
    try:
        if is_followed:
            rows = serving.ask_writer_all(path, [(sql, {})], patience_s=ASK_S)[0].rows
        else:
            rows = _look(path, sql)
    except ModuleNotFoundError:
        return None  # without DuckDB nobody here asks a history
    except FedlogError as error:
        return Projection(path=str(path), is_followed=is_followed, unreadable=str(error))
    marks = {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
    return Projection(path=str(path), topics=TOPICS, marks=marks, is_followed=is_followed)


def _look(path: Path, sql: str) -> list[tuple[object, ...]]:
    from ops.history.tables.duckdb_file import open_for_questions

    with open_for_questions(path) as answers:
        return answers.look(sql)


def _read_tails(log: EventLog, settings: Settings, *, ends: Offsets) -> Iterator[Tail]:
    """The newest records of each journal partition in which anything stands."""
    journals = {topic.name for topic in JOURNALS}
    wanted = {at: end for at, end in ends.items() if at.topic in journals and end > 0}
    # A key that cannot be read is a finding of its own; chains are then taken for what they say.
    operator = None
    # Without the operator chains are followed all the same, as `fedlog verify` does.
    with contextlib.suppress(FedlogError):
        operator = find_operator(settings)
    trust = make_trust(log, operator)
    bounds = log.list_bounds(wanted)
    starts = {at: max(bounds[at].beginning, end - TAIL_OFFSETS) for at, end in wanted.items()}
    found = _read(log, {at: (starts[at], end) for at, end in wanted.items()})
    claims = {at: claim for at, records in found.items() if (claim := find_claim(records)) is not None}
    claimed = _read(log, {at: (offset, offset + 1) for at, offset in claims.items()})
    for at, records in found.items():
        yield follow_tail(at, records, claim=next(iter(claimed.get(at, ())), None), trust=trust)


def _read_snapshots(log: EventLog, ends: Offsets, *, limits: Limits) -> Iterator[SnapshotSeen]:
    """The newest snapshot of each actor, where a journal is so long that one matters: their bodies are large."""
    journals = {role.journal: name for name, role in ROLES.items()}
    # Of a short journal no snapshot is missed.
    long = {at.partition for at, end in ends.items() if at.topic in journals and end > limits.unsnapshot_offsets}
    places = {TopicPartition(SNAPSHOTS.name, partition) for partition in long}
    spans = {at: (max(0, ends[at] - SNAPSHOT_OFFSETS), ends[at]) for at in places if ends.get(at)}
    if not spans:
        return
    from actors.runtime.snapshots import CODE

    spans = {at: (_find_first(log, at, start=start), end) for at, (start, end) in spans.items()}
    for at, records in _read(log, spans).items():
        for actor in ROLES:
            newest = next((record for record in reversed(records) if record.key == actor.encode()), None)
            with contextlib.suppress(MalformedError):
                if newest is not None:
                    told = decode(parse_certified(newest.value or b"").payload, Snapshot)
                    yield SnapshotSeen(
                        actor=actor, partition=at.partition, offset=told.offset, is_of_this_code=told.code == CODE
                    )


def _find_first(log: EventLog, at: TopicPartition, *, start: int) -> int:
    return max(start, log.bounds(at).beginning)


def _read(log: EventLog, spans: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, list[Record]]:
    """The records in each span, by one reader: a connection for each would take longer than all of them."""
    found: dict[TopicPartition, list[Record]] = {at: [] for at in spans}
    if not spans:
        return found
    give_up_s = time.monotonic() + READ_S
    with closing(log.reader({at: start for at, (start, _) in spans.items()})) as reader:
        while time.monotonic() < give_up_s and _is_behind(reader.position, spans):
            for record in reader.poll(0.1):
                if record.offset < spans[record.at][1]:
                    found[record.at].append(record)
    return found


def _is_behind(position: Callable[[TopicPartition], int], spans: Mapping[TopicPartition, tuple[int, int]]) -> bool:
    return any(position(at) < end for at, (_, end) in spans.items())
