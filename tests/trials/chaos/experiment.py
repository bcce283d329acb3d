"""A series of cells on one stage: a task at work, one fault after the other, two versions and the laws after each.

Every cell brings proof of its hit: the passage of its point, fenced writers, batches of zombies that readers skip, and
records of aborted transactions, which only a reader of uncommitted records sees.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as BrokerPartition
from kafka.errors import KafkaError

from actors.hosts.faust_app import SESSION_TIMEOUT_S
from actors.hosts.helper.store import EPOCHS, create_store
from client_agent.identity import open_identity
from ops.console import note
from ops.processes import broker
from schemas.canonical import MalformedError, decode
from schemas.devices import is_signed_by_device
from schemas.events import UpdateSubmitted
from schemas.policy import Policy
from schemas.signing import parse_signed
from schemas.topics import CATALOGUE, JOURNALS, PUBLISHED, UPDATES
from streams.kafka.settings import KafkaSettings
from streams.log import LogError, LogUnavailable, Record, TopicPartition, scan
from tests.judges.lawcheck import check
from tests.judges.logbook import read
from tests.judges.masking.words import helper_key_faults
from tests.judges.sealing.epochs import key_faults
from tests.learners import FLAT_LEARNER
from tests.trials.chaos import device, projector
from tests.trials.chaos.applicants import applicants
from tests.trials.chaos.cast import Cast, signalled
from tests.trials.chaos.points import PARTITION, TASK, Cell
from tests.trials.chaos.releasing.speakers import RELEASED, speakers
from tests.trials.chaos.trap import Blow, Trap
from tests.trials.chaos.watched.attackers import attackers, make_rules
from tests.trials.chaos.watched.movers import make_question, move
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, beside

HELPER, OTHER_HELPER = "helper-0", "other-helper"
PARAMETERS = 40
PARAMETERS_LARGE = 40_000  # an update of this size is stored apart from the record that names it
PAST_THE_SESSION_S = SESSION_TIMEOUT_S + 3.0
BROKER_AWAY_S = 1.0
WITHIN_S = 90.0
# It commits as soon as it goes on, unless the news that its group has moved on ends it first: then the blow has missed.
ZOMBIE_WITHIN_S = 20.0
NO_ZOMBIE = "a zombie's batch is in the journal"
STARTED_WITHIN_S = 180.0
FAILURES = (AssertionError, LogError, KafkaError, broker.BrokerError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a cell. `hits`: passages of its point; `recovery_s`: from the blow to the actor's next commit.

    `models`: its versions, which the end of the series recomputes from the bodies, bit for bit.
    """

    hits: int = 0
    seconds: float = 0.0
    recovery_s: float | None = None
    violations: int = 0
    first_violation: str = ""
    fenced: int = 0
    zombies: int = 0
    aborted: int = 0
    replies_lost: int = 0
    starts: int = 0
    versions: int = 0
    models: int = 0


Row = tuple[Cell, Outcome]


def run(cells: Sequence[Cell], kafka: KafkaSettings, *, broker_folder: Path, folder: Path) -> Iterator[Row]:
    """Play cells of one actor and number of workers, one after the other; a row for each, once it is known.

    The first that fails ends the series. What only the end shows (an input without outcome) is held against them all.
    """
    folder.mkdir(parents=True)
    with _cast(kafka, folder) as cast:
        experiment = Experiment(cells, cast, broker_folder=broker_folder)
        rows: list[Row] = []
        try:
            with experiment.fleet() as fleet:
                for cell in cells:
                    rows.append((cell, experiment.measured(cell)))
                    yield rows[-1]
                    if rows[-1][1].violations:
                        return
                fleet.rest(WITHIN_S)
            faults = experiment.judge()
        except FAILURES as error:
            faults = [_told(error)]
        for cell, outcome in rows if faults else ():
            yield cell, replace(outcome, violations=len(faults), first_violation=f"at the end: {faults[0]}")


@contextmanager
def _cast(kafka: KafkaSettings, folder: Path) -> Iterator[Cast]:
    cast = Cast(kafka, folder)
    try:
        yield cast
    finally:
        with suppress(LogError):
            cast.close()
        # A series leaves a hundred partitions, and all series together would leave thousands.
        with suppress(KafkaError), closing(KafkaAdminClient(**kafka.client())) as admin:
            admin.delete_topics([kafka.add_prefix(topic.name) for topic in CATALOGUE])


class Experiment:
    """One stage, and what is done to it."""

    def __init__(self, cells: Sequence[Cell], cast: Cast, *, broker_folder: Path) -> None:
        self.cells, self.cast, self.broker_folder = cells, cast, broker_folder
        self.actor = cells[0].actor
        self.is_device, self.is_projector = self.actor == "device", self.actor == "projector"
        self.is_sealed, self.is_masked = cells[0].is_sealed, cells[0].is_masked
        self.is_watched, self.is_asked = cells[0].is_watched, cells[0].is_asked
        self.trap = Trap(folder=cast.folder, partition=PARTITION, name="driver")
        self._before: Counter[str] = Counter()

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """Everybody at work, from the first version on."""
        parameters = PARAMETERS_LARGE if self.is_device else PARAMETERS
        rules = self._choose_rules(parameters)
        # Only in the cells that are about it: a lease that is given up makes rounds slower.
        gives_up = 0.2 if any(cell.point == "abandon" for cell in self.cells) else 0.0
        habits = Habits(
            again=0.1, rest_s=0.1, inline=0.0 if self.is_device else 0.5, gives_up=gives_up, says_so=bool(gives_up)
        )
        created = self.cast.create_task(TASK, rules, parameters=parameters)
        for actor in dict.fromkeys((*ACTORS, self.actor)):
            self._start(actor)
        if self.is_masked:
            self.cast.play("helper", replace(self.trap, name=OTHER_HELPER))
        asks = {"registrar": applicants, "rollout": speakers}.get(self.actor)
        asking = nullcontext() if asks is None else asks(self.cast)
        if self.is_watched:
            asking = attackers(self.cast, rules, parameters)
        hiding = created if self.is_sealed or self.is_masked else None
        fleet = Fleet(self.cast.kafka, TASK, rules, parameters, 6, habits=habits, created=hiding)
        if self.is_asked:
            asking = beside(partial(move, fleet, parameters))
        with asking, fleet:
            self.cast.until(self._has_started, "the first version", timeout_s=STARTED_WITHIN_S)
            yield fleet

    def measured(self, cell: Cell) -> Outcome:
        """Play one cell; whatever goes wrong is a violation."""
        began_s, blow = time.time(), Blow(number=self.cells.index(cell), point=cell.point, fault=cell.fault)
        try:
            self._play(cell, blow)
            # What was decided by then has to hold already; the sums wait for the end, because they cost the most.
            faults = check(self.cast.log, PARTITION, settled=False, sums=False)
        except FAILURES as error:
            faults = [_told(error)]
        outcome = Outcome(
            seconds=round(time.time() - began_s, 1),
            violations=len(faults),
            first_violation=faults[0] if faults else "",
        )
        with suppress(*FAILURES):
            return replace(outcome, **self._figures(cell, self.trap.struck(blow), since_s=began_s))
        return outcome

    def judge(self) -> list[str]:
        """Every violation, once everything has its outcome, and again after everybody's death.

        A device ends first: what it says while the workers end has no outcome.
        """
        self.cast.leave("device")
        give_up, sums = time.monotonic() + WITHIN_S, {"sums": self.cast.epoch_keys if self.is_sealed else True}
        while self.cast.faults(PARTITION, **sums) and time.monotonic() < give_up:
            time.sleep(0.5)
        self.cast.stop()
        # Killed like the others, so that the last of its commits is under way.
        is_kept = projector.compare(self.cast.log, self.cast.folder, self.cast.viewer) if self.is_projector else ()
        book = read(self.cast.log, PARTITION)
        keys = [*key_faults(book.rounds, self.cast.epoch_keys)] if self.is_sealed else []
        for number, name in enumerate((HELPER, OTHER_HELPER) if self.is_masked else ()):
            keys += helper_key_faults(book, number, folder=self.cast.folder / name / EPOCHS)
        return [*self.cast.faults(PARTITION, **sums), *self._second_thoughts(), *is_kept, *keys]

    def _choose_rules(self, parameters: int) -> Policy:
        if self.is_watched:
            return make_rules(parameters)
        return make_question(parameters) if self.is_asked else _rules(parameters, tier=self._choose_tier())

    def _choose_tier(self) -> dict[str, Any]:
        """Sealed, or masked by two helpers that draw the noise, with another key for each version, or rolled out."""
        if self.cells[0].is_released:
            return RELEASED
        if self.is_sealed:
            return {"tier": "sealed", "sealed": {"epoch_versions": 1}}
        if not self.is_masked:
            return {}
        helpers = tuple(create_store(self.cast.folder / name).hex() for name in (HELPER, OTHER_HELPER))
        masked = {"helpers": helpers, "epoch_versions": 1, "noise": "helpers"}
        # In the ring of 2^32 there is room for so much noise on so coarse a grid.
        return {"tier": "masked", "masked": masked, "compression": {"codec": "float32"}, "clipping": {"steps": 1 << 15}}

    # --- the play ---------------------------------------------------------------------------------------------------

    def _start(self, actor: str) -> None:
        is_target = actor == self.actor
        faults = {cell.fault for cell in self.cells}
        for number in range(self.cells[0].workers if is_target else 1):
            trap = replace(
                self.trap,
                name=f"{actor}-{number}",
                is_target=is_target,
                is_fenced=not (is_target and "unfenced" in faults),
            )
            self.cast.play(actor, trap, behind_proxy=is_target and bool(faults & {"cut", "reply"}))

    def _has_started(self) -> bool:
        starts = sum(worker.starts for worker in self.cast.workers)
        assert starts <= 4 * len(self.cast.workers), f"workers die before anybody strikes them\n{self.cast.tails()}"
        return self.cast.version(TASK) >= 1

    def _play(self, cell: Cell, blow: Blow) -> None:
        self.trap.arm(blow)
        if cell.is_opening:
            # Whoever holds the partition dies, so that somebody opens it on a journal that is worth replaying.
            first = "open" if self.is_projector else "claim"
            signalled(self.trap.passages(first, actor=cell.actor)[-1]["pid"], signal.SIGKILL)
        self._until(lambda: self.trap.struck(blow), f"{cell.point} is passed")
        struck = self.trap.struck(blow)
        self._finish_fault(cell, blow, struck=struck)
        self._until(lambda: self._next_s(struck), f"the {self.actor} goes on")
        self.cast.until_version(TASK, self._versions() + 1, timeout_s=WITHIN_S)

    def _finish_fault(self, cell: Cell, blow: Blow, *, struck: dict[str, Any]) -> None:
        """The driver's part of the fault, and its end."""
        proxy = self.cast.proxies.get(struck["name"])
        match cell.fault:
            case "stop":
                self._until_past_the_session(cell, struck)
                signalled(struck["pid"], signal.SIGCONT)
            case "unfenced":
                self._until_past_the_session(cell, struck)
                signalled(struck["pid"], signal.SIGCONT)
                seen = self._before["zombies"]
                self.cast.until(lambda: self._zombies() > seen, NO_ZOMBIE, timeout_s=ZOMBIE_WITHIN_S)
            case "broker":
                broker.crash(self.broker_folder)
                self.trap.answer(blow)
                time.sleep(BROKER_AWAY_S)
                broker.start(self.broker_folder)
                self._until(self._is_answered, "the broker answers")
            case "cut" if proxy:
                proxy.cut()
                self.trap.answer(blow)
                self._until_past_the_session(cell, struck)
                proxy.heal()
            case "reply" if proxy:
                lost = proxy.lost
                proxy.lose_reply()
                self.trap.answer(blow)
                self._until(lambda: proxy.lost > lost, "a reply to EndTxn is lost")

    def _next_s(self, struck: dict[str, Any]) -> float:
        """When somebody next did what the actor is there for: a commit, an outcome, rows on the disk; 0: not yet."""
        purpose = {"device": "settled", "projector": "stored", "helper": "said"}.get(self.actor, "commit")
        done = self.trap.passages(purpose, actor=self.actor, since_s=struck["at_s"])
        return done[0]["at_s"] if done else 0.0

    def _until_past_the_session(self, cell: Cell, struck: dict[str, Any]) -> None:
        """Longer than the session timeout; where others can take over, until one has."""
        time.sleep(PAST_THE_SESSION_S)
        if cell.workers > 1:
            self._until(lambda: self._successors(struck), "somebody takes over")

    def _successors(self, struck: dict[str, Any]) -> list[dict[str, Any]]:
        claims = self.trap.passages("claim", actor=self.actor, since_s=struck["at_s"])
        return [claim for claim in claims if claim["name"] != struck["name"]]

    def _is_answered(self) -> bool:
        with suppress(LogUnavailable):
            return self._versions() > 0
        return False

    def _until(self, is_so: Callable[[], object], what: str) -> None:
        self.cast.until(is_so, what, timeout_s=WITHIN_S)

    # --- the figures ------------------------------------------------------------------------------------------------

    def _figures(self, cell: Cell, struck: dict[str, Any], *, since_s: float) -> dict[str, Any]:
        """What the traps, the logs of the workers and the log itself say about this cell alone."""
        topics = [*(journal.name for journal in JOURNALS), PUBLISHED.name]
        now: Counter[str] = Counter(
            fenced=self.cast.said("WriterFenced"),
            zombies=self._zombies(),
            aborted=sum(self._aborted(topic) for topic in topics),
            replies_lost=sum(proxy.lost for proxy in self.cast.proxies.values()),
            starts=sum(worker.starts for worker in self.cast.workers),
            versions=self._versions(),
        )
        figures: dict[str, Any] = {name: now[name] - self._before[name] for name in now}
        figures["models"] = figures["versions"]
        self._before = now
        if struck:
            figures["recovery_s"] = round(self._next_s(struck) - struck["at_s"], 2) if self._next_s(struck) else None
            figures["hits"] = len(self.trap.passages(cell.point, actor=cell.actor, since_s=since_s))
        return figures

    def _zombies(self) -> int:
        """Batches that every reader skips, over all journals of the partition."""
        return sum(journal.zombies for journal in read(self.cast.log, PARTITION).journals.values())

    def _versions(self) -> int:
        # Beside versions a rollout's steps stand there.
        return sum(b"io.fedlog.model.published" in (record.value or b"") for record in self._committed(PUBLISHED.name))

    def _committed(self, topic: str) -> list[Record]:
        return list(scan(self.cast.log, TopicPartition(topic, PARTITION)))

    def _aborted(self, topic: str) -> int:
        """Records that a reader of everything sees, and a reader of what is committed does not."""
        at, client = BrokerPartition(self.cast.kafka.add_prefix(topic), PARTITION), self.cast.kafka.client()
        with closing(KafkaConsumer(group_id=None, isolation_level="read_uncommitted", **client)) as everything:
            everything.assign([at])
            # Up to here only: an open transaction is neither committed nor aborted.
            end = self.cast.log.bounds(TopicPartition(topic, PARTITION)).end
            everything.seek_to_beginning(at)
            seen: set[int] = set()
            while everything.position(at) < end:
                seen |= {item.offset for items in everything.poll(timeout_ms=200).values() for item in items}
        committed = {record.offset for record in self._committed(topic)}
        return len({offset for offset in seen if offset < end} - committed)

    def _second_thoughts(self) -> Iterator[str]:
        """A device that comes back sends the same bytes again, or nothing."""
        sent: dict[bytes, set[bytes]] = {}
        own = open_identity(self.cast.folder / "device-0", device.NAME).public_key if self.is_device else b""
        for record in self._committed(UPDATES.name):
            with suppress(MalformedError):
                message = parse_signed(record.value or b"")
                if own and is_signed_by_device(message, own):
                    sealed = decode(message.payload, UpdateSubmitted).sealed
                    sent.setdefault(sealed, set()).add(record.value or b"")
        if self.is_device and not sent:
            yield f"{device.NAME} has sent nothing"
        yield from (f"an update of {device.NAME} was sent as {len(ways)}" for ways in sent.values() if len(ways) > 1)


def _told(error: Exception) -> str:
    """Its first line, for the row; all of it, with what the workers said last, for whoever watches."""
    note(str(error))
    return str(error).partition("\n")[0]


def _rules(parameters: int, *, tier: dict[str, Any]) -> Policy:
    """A private task, with short leases so that those of the dead come back."""
    return policy(
        **{"compression": {"codec": "int8"}, **tier},
        selection={"devices_expected": 8, "concurrency": 8, "retry_after_s": 0.2, "lease_s": 6.0},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 5_000},
        model="",
        learner=FLAT_LEARNER,
        learner_arguments={"parameters": parameters},
    )
