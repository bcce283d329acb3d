"""Rollouts in some worlds: evaluators of whom some lie or leave a cohort out, and an operator with second thoughts.

All of it from a stream of chance of its own, so that worlds without rollouts stay what they were.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from actors.keys import OperatorKey
from schemas.events import (
    CandidateStaged,
    Promoted,
    RolledBack,
    RolloutAction,
    RolloutHalted,
    RolloutResumed,
    VersionEvaluated,
)
from schemas.policy import Policy, PolicyError, Rollout, check_policy
from schemas.topics import EVALUATIONS, ROLLOUTS, TASKS
from streams.log import Draft, TopicPartition
from streams.memory import MemoryLog
from tests.judges.logbook import Journal
from tests.trials.simulation.faults import Faults
from tests.trials.simulation.tasks import Task
from tests.trials.simulation.verdict import Watch
from tests.worlds.builders import role_key, written
from tests.worlds.releasing.orders import rollout_ordered
from tests.worlds.rounds import evaluator_id

SHARE = 0.35  # of the worlds roll versions out
EVALUATORS = 3
COHORTS = ("west", "east", "")  # each evaluator says that of all together last
LIES = (0.0, 1.0, 2.0, -1e300, float("nan"), float("inf"))
ACTIONS: tuple[RolloutAction, ...] = (
    *("promote", "promote", "rollback", "rollback"),
    *("halt", "resume", "resume", "approve", "approve"),
)
STRANGER = OperatorKey(b"s" * 32)


class Releasing:
    """Everything about rollouts in one world; nothing, in most."""

    def __init__(self, seed: int, tasks: Sequence[Task], faults: Faults) -> None:
        self._seed, self._chance, self._faults = seed, random.Random(f"{seed}/releasing"), faults
        chosen = tasks if self._chance.random() < SHARE else ()
        self.tasks = [task for task in chosen if self._release(task)]
        self._numbers = dict.fromkeys((task.name for task in self.tasks), 0)
        self._watches: dict[int, tuple[Watch, Standing]] = {}

    def _release(self, task: Task) -> bool:
        """Whether a task can be rolled out, as it is from then on."""
        draw = self._chance
        stages = sorted(draw.choice((0.05, 0.3, 0.3, 1.0)) for _ in range(draw.randint(0, 3)))
        table = {
            "stages": [
                {
                    "share": share,
                    "cohorts": ["west"] if not number and draw.random() < 0.4 else [],
                    "hold_s": draw.choice((0.0, 3.0, 40.0)),
                }
                for number, share in enumerate(stages)
            ],
            "gates": [gate for gate in self._list_gates() if draw.random() < 0.4],
            "samples_min": draw.choice((1, 1, 20)),
            "patience_s": draw.choice((5.0, 60.0, 300.0)),
            "every": draw.choice((1, 1, 1, 2)),
            "needs_approval": draw.random() < 0.25,
        }
        evaluation = task.rules.evaluation
        if not evaluation.has_finals and draw.random() < 0.5:
            apart = draw.choice((UNSET, 0.2))
            evaluation = replace(evaluation, quorum=draw.randint(1, EVALUATORS), disagreement_max=apart)
        rules: Policy = replace(task.rules, rollout=msgspec.convert(table, Rollout), evaluation=evaluation)
        for each in (*(_shrink(rules, size) for size in (1, 2)), rules):
            with suppress(PolicyError):
                task.rules = check_policy(each)
                return True
        return False

    def _list_gates(self) -> list[dict[str, Any]]:
        low, drop, gap = (self._chance.choice(values) for values in ((0.3, 0.7), (0.0, 0.05), (0.0, 0.1, 0.5)))
        return [
            {"metric": "accuracy", "at_least": low, "cohort": self._chance.choice(("", "", "east"))},
            {"metric": "accuracy", "drop_max": drop},
            {"metric": "accuracy", "gap_max": gap},
            {"metric": "loss", "at_most": 1.5, "drop_max": 0.5},
        ]

    # --- what evaluators and the operator say -----------------------------------------------------------------------

    def say(self, kind: str, log: MemoryLog) -> int:
        """A score, or an order; the partition of the rollout that hears it."""
        task = self._chance.choice(self.tasks)
        if kind == "score":
            self._score(task, log)
        else:
            self._order(task, log)
        return task.partition

    def _score(self, task: Task, log: MemoryLog) -> None:
        """Some evaluators speak of one version, mostly the newest: the truth, by and large."""
        draw = self._chance
        version = max(0, self._find_newest(task, log) + draw.choice((-2, -1, *[0] * 9, 1, 4)))
        for serial in draw.sample(range(EVALUATORS), draw.choice((1, 2, EVALUATORS, EVALUATORS))):
            lie = draw.choice(LIES) if draw.random() < 0.1 else None
            for cohort in (cohort for cohort in COHORTS if draw.random() < 0.9):
                said = self._evaluate(task, version, cohort=cohort, serial=serial)
                if lie is not None:
                    said = replace(said, metrics={"accuracy": lie})
                if draw.random() < 0.1:
                    changed = draw.choice(({"samples": 0}, {"evaluator": evaluator_id(draw.randrange(EVALUATORS))}))
                    said = replace(said, **draw.choice((changed, {"evaluator": UNSET})))
                self._say(log, task, said, serial=serial)

    def _evaluate(self, task: Task, version: int, *, cohort: str, serial: int) -> VersionEvaluated:
        """The truth about a version."""
        worth = random.Random(f"{self._seed} {task.name} {version}").choice((0.9, 0.9, 0.88, 0.86, 0.5))
        value = worth - 0.01 * (cohort == "east")
        return VersionEvaluated(
            task=task.name,
            version=version,
            metrics={"accuracy": value, "loss": 1 - value},
            samples=50,
            cohort=cohort,
            evaluator=evaluator_id(serial),
        )

    def _say(self, log: MemoryLog, task: Task, said: VersionEvaluated, *, serial: int) -> None:
        # By its bytes and not by `encode`: nobody can keep a certified key from signing what is no number.
        value = role_key("evaluator", serial=serial).signer.certify(msgspec.msgpack.encode(said))
        self._append(log, task, EVALUATIONS.name, value)

    def _order(self, task: Task, log: MemoryLog) -> None:
        """The operator orders something, with a number that may be an old one; or somebody else does."""
        draw = self._chance
        newest, action = self._find_newest(task, log), draw.choice(ACTIONS)
        version = None if draw.random() < 0.3 else max(0, newest - draw.choice((-1, 0, 0, 1, 1, 2, 4)))
        if action not in ("promote", "rollback", "approve"):
            version = None
        number = self._count(task) if draw.random() < 0.9 else draw.randint(0, self._numbers[task.name])
        order = rollout_ordered(task.name, action, version=version, number=number)
        key = STRANGER if draw.random() < 0.05 else None
        self._append(log, task, TASKS.name, written(order, key) if key else written(order))

    def _count(self, task: Task) -> int:
        self._numbers[task.name] += 1
        return self._numbers[task.name]

    def _append(self, log: MemoryLog, task: Task, topic: str, value: bytes) -> None:
        log.append([Draft(topic=topic, partition=task.partition, value=value)])

    # --- in the end -------------------------------------------------------------------------------------------------

    def resume(self, log: MemoryLog) -> None:
        """The operator lets every rollout go on, and all evaluators speak the truth about what is newest."""
        for task in self.tasks:
            version = self._find_newest(task, log)
            for serial in range(EVALUATORS):
                for cohort in COHORTS:
                    self._say(log, task, self._evaluate(task, version, cohort=cohort, serial=serial), serial=serial)
            order = rollout_ordered(task.name, "resume", number=self._count(task))
            self._append(log, task, TASKS.name, written(order))

    def list_waiting(self, log: MemoryLog, *, but: Collection[int]) -> list[str]:
        """Tasks with a candidate that nobody has halted, outside these partitions; the operator approves of each."""
        waiting = []
        for task in (task for task in self.tasks if task.partition not in but):
            _, standing = self._watch(task, log)
            if task.name in standing.candidates and task.name not in standing.halted:
                waiting.append(task.name)
            # Only where it is asked for: an order lets time pass, which is what a host's ticks are there for.
            if task.name in waiting and task.rules.rollout.needs_approval:  # type: ignore[union-attr]
                order = rollout_ordered(task.name, "approve", number=self._count(task))
                self._append(log, task, TASKS.name, written(order))
        return waiting

    def _find_newest(self, task: Task, log: MemoryLog) -> int:
        watch, _ = self._watch(task, log)
        return watch.versions.get(task.name, 0)

    def _watch(self, task: Task, log: MemoryLog) -> tuple[Watch, Standing]:
        at = task.partition
        found = self._watches[at] = self._watches.get(at) or (Watch(log, at), Standing(log, at))
        for each in found:
            each.look()
        return found


def _shrink(rules: Policy, size: int) -> Policy:
    """Smaller rounds, so that there are versions to roll out; and few models kept, which what is used outlives."""
    older = min(1, rules.staleness.max_versions)
    return replace(
        rules,
        aggregation=replace(
            rules.aggregation, updates_per_round=size, updates_min=min(size, rules.aggregation.updates_min)
        ),
        staleness=replace(rules.staleness, max_versions=older),
        retention=replace(rules.retention, models_kept=older + 2),
    )


class Standing:
    """Follows the rollouts of one partition as they are written: who has a candidate, and who is halted."""

    def __init__(self, log: MemoryLog, partition: int) -> None:
        self.candidates: dict[str, int] = {}
        self.halted: set[str] = set()
        self._journal = Journal(ROLLOUTS.name)
        self._reader = log.reader({TopicPartition(ROLLOUTS.name, partition): 0})

    def look(self) -> None:
        """Read on to the end."""
        seen = len(self._journal.batches)
        for record in self._reader.poll(0):
            self._journal.follow(record)
        for _, batch in self._journal.batches[seen:]:
            for event in (event for decision in batch.decisions for event in decision.events):
                match event:
                    case CandidateStaged():
                        self.candidates[event.task] = event.version
                    case Promoted() | RolledBack() if self.candidates.get(event.task) == event.version:
                        del self.candidates[event.task]
                    case RolloutHalted():
                        self.halted.add(event.task)
                    case RolloutResumed():
                        self.halted.discard(event.task)
