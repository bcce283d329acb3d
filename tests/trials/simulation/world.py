"""One simulated world: the real actors and the real devices over the in-memory log, one thread, virtual time.

Every choice comes from one seed, so a seed and a number of steps are the whole story. First faults, then everything is
healed: nobody may wait for ever, the next version must come, and the log must be lawful. Only the log is judged.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from actors.effects.aggregator.bodies import BodyLost
from actors.runtime.guard import StateHalfApplied
from actors.wiring import ROLES
from client_agent.running.loop import NEVER_MS
from schemas.journal import WRITERS, ChainBroken
from schemas.topics import CATALOGUE, ROLLOUTS
from streams.log import CommitUncertain, Draft, WriterFenced
from streams.memory import MemoryLog
from tests.trials.simulation import faults, tasks
from tests.trials.simulation.devices import make_loop
from tests.trials.simulation.hosts import Worker
from tests.trials.simulation.meddling import Meddler
from tests.trials.simulation.releasing.rollouts import Releasing
from tests.trials.simulation.shaky import Detour, DeviceLog, Killed
from tests.trials.simulation.shards import Sealing, Shards, Watching
from tests.trials.simulation.tiers.masking import Masking
from tests.trials.simulation.verdict import Story, Stuck, Watch, Witness, digest_journals, judged, unpublished
from tests.trials.simulation.virtual import alarms

Slot = tuple[str, int]

EPOCH_MS = 1_700_000_000_000
PLAIN = {"devices": 20.0, "feed": 30.0, "start": 6.0, "tick": 4.0}  # weights of the steps that are no fault
NESTED_MAX = 3
HEALED_WITHIN_MS = 900_000
TURNS_MAX = 1_000
_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the quickest disk there is


@dataclass
class World:
    """Everything that happens under one seed, `steps` long."""

    seed: int
    steps: int
    off: Collection[str] = ()
    now_ms: int = EPOCH_MS
    taken: int = 0
    workers: dict[Slot, Worker] = field(default_factory=dict)
    zombies: list[Worker] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)  # partitions with a commit that was reported and never made
    late: Detour = field(default_factory=Detour)
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.faults = faults.drawn(self.random, off=self.off)
        self.hits = self.faults.hits
        self.tasks = tasks.drawn(self.random, later="rules" not in self.off)
        # Worlds of recorded seeds had no device in two tasks, no registrar and more, and have to stay what they were.
        self.tasks += tasks.draw_sharing(self.seed, self.tasks) if not {"rules", "sharing"} & {*self.off} else []
        later = self.tasks if "rules" not in self.off else ()
        self.sealing = Sealing(self.seed, later, self.hits)
        self.shards = Shards(self.seed, self.tasks, self.hits, sealing=self.sealing)
        self.masking = Masking(self.seed, self.tasks if not {"rules", "masks"} & {*self.off} else (), self.faults)
        self.watching = Watching(self.seed, later)  # last: of what is masked or spread nobody compares members
        self.releasing = Releasing(self.seed, later if "rollouts" not in self.off else (), self.faults)
        self.log = MemoryLog(CATALOGUE, clock=self._append_ms)
        self.meddler = Meddler(self.log, self.tasks, self.faults)
        self.partitions = sorted({task.partition for task in self.tasks})
        rare = {"rollout": bool(self.releasing.tasks), "registrar": "enrol" not in self.off}
        self.slots = [(name, at) for at in self.partitions for name in ROLES if rare.get(name, True)]
        self._depth = 0
        self._skew_ms = self.random.choice((0, 0, -20_000, 20_000))
        self._menu = self.faults.weigh(PLAIN, rolls_out=bool(self.releasing.tasks))
        self._kinds, self._weights = [*self._menu], [*self._menu.values()]
        self._checks_at = {self.random.randrange(150)} if self.random.random() < 0.1 else set()

    def run(self) -> Story:
        """The story's end; it raises nothing, whatever went wrong."""
        with tempfile.TemporaryDirectory(dir=_DISK) as folder, self.masking.watching():
            try:
                self._begin(Path(folder))
                while self.taken < self.steps:
                    self._step()
                self._heal()
                found = self._judge(settled=True, seen=self.hits)
            except Stuck as error:
                found = [str(error)]
            self.masking.close()
        digest = digest_journals(self.log, self.partitions)
        return Story(seed=self.seed, steps=self.steps, faults=found, hits=self.hits, digest=digest, trace=self.trace)

    def sleep(self, seconds: float) -> None:
        """Whoever sleeps lets virtual time pass."""
        self.now_ms += round(seconds * 1_000)

    def monotonic(self) -> float:
        """Virtual seconds, for whoever limits a wait."""
        return self.now_ms / 1_000

    def _begin(self, folder: Path) -> None:
        self.sealing.folder = folder / "epoch-keys"
        self.masking.begin(folder, self.log)
        for task in self.tasks:
            task.create(self.log)
        net = DeviceLog(self.log, self.faults, later=self._hold)
        self.loops = {
            task.name: make_loop(task, net, folder=folder, faults=self.faults, now_ms=self.now_ms + self._skew_ms)
            for task in self.tasks
        }
        for slot in self.slots:
            self._start(slot)

    # --- one step ---------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self.taken += 1
        self.now_ms += self.random.randrange(120)
        self.late.land(self.log, self.now_ms)
        self.shards.step(self.log)
        self.masking.step()
        self.watching.step(self.log)
        [kind] = self.random.choices(self._kinds, self._weights)
        slot = self.random.choice(self.slots)
        self.trace.append(f"{self.taken} at {self.now_ms - EPOCH_MS:,} ms: {kind} {slot[0]}[{slot[1]}]")
        if kind not in PLAIN:
            self.hits[kind] += 1
        match kind:
            case "devices":
                self._devices()
            case "start":
                self._start_missing()
            case "jump":
                self.now_ms += self.random.choice((3_000, 30_000, 90_000, 7_200_000))
            case "quiet" if self._depth == 0:
                self._strike("kill", slot)
                self._stay_quiet()
            case "quiet":
                self._strike("kill", slot)
            case "abandon" | "enrol" | "score" | "order":
                self._strike(self.random.choice(("kill", "freeze", "feed")), self._say(kind))
            case "kill" | "freeze" | "rival" | "reopen" | "feed" | "stray" | "tick" | "housekeep":
                self._strike(kind, slot)
            case _:
                self.meddler.meddle(kind)
        if self.taken in self._checks_at:
            self._check()

    def _check(self) -> None:
        """Judge what can be read by now."""
        if wrong := self._judge(settled=False, hidden=self.faults.hidden):
            raise Stuck(f"at step {self.taken}: {wrong[0]}")

    def _say(self, kind: str) -> Slot:
        """Somebody says something to an actor, which is struck while it decides that."""
        if kind == "abandon":
            return "selector", self.meddler.abandon()
        if kind in faults.ROLLOUT_STEPS:
            return "rollout", self.releasing.say(kind, self.log)
        return "registrar", self.meddler.enrol(self.now_ms)

    def _strike(self, kind: str, slot: Slot) -> None:
        """Something happens to the worker of this slot, if there is one, or to a zombie."""
        if self.zombies and self.random.random() < 0.3:
            self._drive(zombie := self.random.choice(self.zombies), lambda: self._fed(zombie))
            return
        worker = self.workers.get(slot)
        if worker is None:
            return
        match kind:
            case "kill" | "freeze":
                self._arm(worker, kind)
                self._drive(worker, lambda: self._fed(worker))
            case "rival":
                self.zombies.append(self.workers.pop(slot))
                self._start(slot)
            case "reopen":
                self.workers.pop(slot).close()
                self._start(slot)
            case "feed":
                self._drive(worker, lambda: self._fed(worker))
            case "tick":
                self._drive(worker, worker.tick)
                self._claim_anew(slot)
            case _:
                self._drive(worker, getattr(worker, kind))

    def _fed(self, worker: Worker) -> None:
        inputs = [topic for topic in ROLES[worker.name].inputs if topic != ROLLOUTS.name or self.releasing.tasks]
        only = self.random.choice(inputs) if self.random.random() < 0.3 else None  # the others lag
        worker.feed(self.random.choice((1, 3, 20, 200)), only=only)

    def _devices(self) -> None:
        """Time goes on to when the next device wants to be woken, if that is soon; then all that are due wake up."""
        loop = self.loops[self.random.choice(self.tasks).name]
        due_ms = loop.step(self.now_ms + self._skew_ms) - self._skew_ms
        if self.now_ms < due_ms < self.now_ms + 20_000:
            self.now_ms = due_ms
            loop.step(self.now_ms + self._skew_ms)
        if error := loop.count().error:
            raise Stuck(f"a device failed for good: {error}")

    def _append_ms(self) -> int:
        return self.now_ms - (self.random.randrange(3_000) if self.faults.strikes("clock back") else 0)

    def _hold(self, draft: Draft) -> None:
        self.late.hold(draft, until_ms=self.now_ms + self.random.choice((300, 5_000, 70_000)))

    # --- workers: their lives and deaths ----------------------------------------------------------------------------

    def _start_missing(self) -> None:
        for slot in filter(self._is_missing, self.slots):
            self._start(slot)

    def _is_missing(self, slot: Slot) -> bool:
        return slot not in self.workers and slot[1] not in self.broken

    def _start(self, slot: Slot) -> None:
        worker = self.workers[slot] = Worker(*slot, log=self.log, faults=self.faults, key=self.sealing.key_of(slot[0]))
        for kind in ("kill", "freeze"):
            if self.faults.rates[kind] > 0 and not self.faults.healed and self.random.random() < 0.15:
                self._arm(worker, kind)
        self.hits["workers started"] += 1
        self._drive(worker, worker.open)

    def _arm(self, worker: Worker, kind: str) -> None:
        worker.log.left = self.random.randint(1, 8)
        worker.log.fuse = (lambda step: self._kill(worker, step)) if kind == "kill" else self._freezing(worker)

    def _kill(self, worker: Worker, step: str) -> None:
        self.hits[f"worker died at {step}"] += 1
        worker.log.is_dead = True
        raise Killed(step)

    def _freezing(self, worker: Worker) -> Callable[[str], None]:
        def freeze(step: str) -> None:
            """The worker stands still inside its call; the world goes on in here, and then the worker too."""
            if self._depth >= NESTED_MAX or self.faults.healed:
                return
            self.hits[f"worker froze at {step}"] += 1
            slot = (worker.name, worker.partition)
            if self.workers.get(slot) is worker:
                del self.workers[slot]
            self._depth += 1
            for _ in range(self.random.choice((2, 8, 25))):
                if self.taken < self.steps:
                    self._step()
            self._depth -= 1
            if slot in self.workers:
                self.hits["woke up as a zombie"] += 1
            else:
                self.workers[slot] = worker

        return freeze

    def _drive(self, worker: Worker, call: Callable[[], object]) -> None:
        """Let a worker do something. What ends a process ends it; anything that no law allows ends the story."""
        slot = (worker.name, worker.partition)
        try:
            try:
                call()
            finally:
                # What a broker has lost is known before somebody is blamed for not finding it.
                self._note_unmade(worker)
        except (Killed, WriterFenced, CommitUncertain):
            self._bury(worker)
        except (ChainBroken, StateHalfApplied, BodyLost) as error:
            if worker.partition not in self.broken and not worker.is_superseded:
                raise Stuck(f"{slot}: {type(error).__name__}: {error}") from error
            self._bury(worker)
        except Stuck:
            raise
        except Exception as error:
            raise Stuck(f"{slot}: {type(error).__name__}: {error}") from error
        if worker.actor is not None and worker.actor.guard.defects and worker.partition not in self.broken:
            raise Stuck(f"{slot}: {alarms[-1]}")

    def _note_unmade(self, worker: Worker) -> None:
        """After a commit that was only reported, the next batch of this worker breaks the chain.

        Also where it dies before that: it may have told a device of a lease that no journal holds. A commit that a
        broker has forgotten to end is lost with the next one of its writer that is aborted.
        """
        if worker.unmade:
            self.broken.add(worker.partition)
        for at in (at for one in self.faults.take_lost() for at in one.first if at.topic in WRITERS):
            self.hits["promise lost"] += 1
            self.broken.add(at.partition)

    def _claim_anew(self, slot: Slot) -> bool:
        """Replace a worker whose commits stay invisible, as its host does; whether it was so."""
        worker = self.workers.get(slot)
        if worker is None or not worker.is_held_back():
            return False
        self.hits["claimed anew"] += 1
        worker.close()
        self._bury(worker)
        self._start(slot)
        return True

    def _bury(self, worker: Worker) -> None:
        slot = (worker.name, worker.partition)
        worker.log.is_dead = True
        worker.log.fuse = None
        if self.workers.get(slot) is worker:
            del self.workers[slot]
        self.zombies = [zombie for zombie in self.zombies if zombie is not worker]

    def _stay_quiet(self) -> None:
        """No device, no operator, no tick: everybody is there and reads to the end, and nobody may wait for ever."""
        self._calm(True)
        self._settle()
        self._calm(False)
        for partition in (partition for partition in self.partitions if partition not in self.broken):
            if waiting := unpublished(self.log, partition):
                raise Stuck(f"in a quiet partition {partition}: {waiting[0]}")

    def _calm(self, healed: bool) -> None:
        self.faults.healed = healed
        for worker in [*self.workers.values(), *self.zombies]:
            worker.log.fuse = None

    # --- healed -----------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """No more faults. Zombies wake up for the last time, every slot gets a worker, and what must come comes."""
        self._calm(True)
        for zombie in [*self.zombies]:
            self._drive(zombie, partial(zombie.feed, 200))
        self.late.land(self.log, NEVER_MS)
        self._settle()
        quiet = self._judge(settled=True) if self.seed % 4 == 0 else []
        if quiet:
            raise Stuck(f"while the devices were quiet: {quiet[0]}")
        self.meddler.resume()
        watches = {partition: Watch(self.log, partition) for partition in self.partitions}
        for watch in watches.values():
            watch.look()
        before = {name: version for watch in watches.values() for name, version in watch.versions.items()}
        end_ms, ticked_ms = self.now_ms + HEALED_WITHIN_MS, self.now_ms
        while waiting := [task.name for task in self.tasks if self._waits(task, watches[task.partition], before)]:
            due_ms = min(loop.step(self.now_ms + self._skew_ms) for loop in self.loops.values()) - self._skew_ms
            self._settle()
            self.watching.lift(self.log)
            self.now_ms = min(max(due_ms, self.now_ms + 400), self.now_ms + 2_500)
            if self.now_ms >= ticked_ms + 2_500:
                ticked_ms = self.now_ms
                for worker in [*self.workers.values()]:
                    self._drive(worker, worker.tick)
            if self.now_ms > end_ms:
                raise Stuck(f"no next version of {waiting} within {HEALED_WITHIN_MS / 1000:.0f} s of a healed world")
        self._settle()
        self._end_rollouts()

    def _end_rollouts(self) -> None:
        """No candidate waits for ever: time and approvals alone promote it, roll it back, or halt its rollout."""
        self.releasing.resume(self.log)
        for _ in range(TURNS_MAX):
            self._settle()
            if not (waiting := self.releasing.list_waiting(self.log, but=self.broken)):
                return
            self.now_ms += 15_000
            for worker in [*self.workers.values()]:
                self._drive(worker, worker.tick)
        raise Stuck(f"the candidates of {waiting} wait for ever")

    def _waits(self, task: tasks.Task, watch: Watch, before: dict[str, int]) -> bool:
        watch.look()
        if task.partition in self.broken or task.name in watch.halted or self.masking.has_given_up(task):
            return False
        return watch.versions.get(task.name, -1) <= before.get(task.name, -1)

    def _settle(self) -> None:
        """Everybody reads to the end; who dies of an old wound, as a fenced writer does, gets a successor."""
        for _ in range(TURNS_MAX):
            self._fed_at_last = self.masking.settle()  # records, in the last turn; a death hides what was fed
            self._start_missing()
            for worker in [*self.workers.values()]:
                self._drive(worker, partial(self._feed_whole, worker))
            # Twice, because a host looks twice before it does so.
            whole = [slot for slot in self.slots if slot[1] not in self.broken]
            held_back = [self._claim_anew(slot) for _ in range(2) for slot in whole]
            if not self._fed_at_last and not any(held_back) and not any(map(self._is_missing, self.slots)):
                return
        raise Stuck(f"after {TURNS_MAX} turns without a fault somebody still dies, or has still something to read")

    def _feed_whole(self, worker: Worker) -> None:
        self._fed_at_last += worker.feed(500)

    def _judge(self, *, settled: bool, hidden: Collection[int] = (), seen: Counter[str] | None = None) -> list[str]:
        witness = Witness(judge=self.masking.judge, list_secrets=self.masking.list_secrets, seen=seen)
        return judged(self.log, self.tasks, broken={*self.broken, *hidden}, settled=settled, witness=witness)
