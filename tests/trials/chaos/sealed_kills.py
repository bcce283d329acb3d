"""A sealed task with shards on a real Kafka, from a gateway and from Kafka, whose keys come and go under kills.

`make sealed-kills` runs it, in three minutes. Whenever an epoch begins or ends somebody is killed: aggregator, gateway,
selector, shard worker, by turns, and two at once. At the end the law check has to find nothing, each key has gone once
or is there, and a full replay agrees wherever a key is left.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from ops.processes import broker
from schemas.events import EpochDestroyed, EpochOpened
from schemas.policy import Policy
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.judges.sealing.epochs import key_faults
from tests.learners import FLAT_LEARNER
from tests.places import home_of
from tests.trials.results import add_row
from tests.worlds.builders import policy
from tests.worlds.gateway.process import GatewayProcess, running
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import PLAIN_ACTORS, Stage, console_beside, say, staged

TASK = "task"
PARTITION = home_of(TASK)
PARAMETERS = 40_000  # an update of it is stored apart from the record that names it
BEHIND_GATEWAY, WITH_KAFKA = 6, 8
KEYS_DESTROYED_MIN, KILLS_MIN, WITHIN_S = 3, 10, 900.0
# Who dies, by turns.
TURNS = (
    ("aggregator",),
    ("gateway",),
    ("selector",),
    ("shard",),
    ("aggregator", "gateway"),
    ("aggregator", "selector"),
)


def main() -> None:
    """Train, kill, judge."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-sealed-")))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        kafka = KafkaSettings(**handle.connection, topic_prefix=f"sealed-{uuid.uuid4().hex[:8]}")
        (folder / "stage").mkdir()
        with staged(kafka, folder / "stage") as stage:
            row = _play(stage, folder / "stage")
    add_row("sealed", row)
    say(json.dumps(row))


def make_rules() -> Policy:
    """Another key every second version, and leases so short that keys go while somebody watches."""
    return policy(
        model="",
        learner=FLAT_LEARNER,
        learner_arguments={"parameters": PARAMETERS},
        tier="sealed",
        sealed={"epoch_versions": 2},
        shards=2,
        selection={"devices_expected": 14, "concurrency": 12, "retry_after_s": 0.3, "lease_s": 8.0},
        aggregation={"updates_per_round": 5},
        compression={"codec": "int8"},
        stop={"versions_max": 5_000},
    )


def _play(stage: Stage, folder: Path) -> dict[str, object]:
    began_s, rules = time.monotonic(), make_rules()
    created = stage.create_task(TASK, rules, parameters=PARAMETERS)
    stage.start(*PLAIN_ACTORS, "shard")
    stage.until_version(TASK, 0, timeout_s=WITHIN_S)
    operator = stage.key.public_key.hex()
    habits = Habits(again=0.1, inline=0.1, rest_s=0.5)
    scripted = Fleet(stage.kafka, TASK, rules, PARAMETERS, WITH_KAFKA, seed=3, habits=habits, created=created)
    with running([*stage.options, "--operator-public-key", operator], folder) as gateway:
        with _devices(gateway.url, operator, folder), scripted as fleet:
            kills = _strike_by_turns(stage, gateway)
            fleet.rest(WITHIN_S)
        assert gateway.end() == 0, gateway.read_log()
    keys = folder / "epoch-keys"
    stage.until_lawful(PARTITION, timeout_s=WITHIN_S, sums=keys)
    rounds = read(stage.log, PARTITION).rounds
    faults = [*key_faults(rounds, keys)]
    assert not faults, faults
    replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
    assert replayed["replay"].startswith("identical"), replayed
    kinds = Counter(type(event).__name__ for event in rounds.events())
    return {
        "kills": dict(kills),
        "seconds": round(time.monotonic() - began_s, 1),
        **{name: kinds[name] for name in ("UpdateAdmitted", "ModelPublished", "EpochOpened", "EpochDestroyed")},
        "abandoned": kinds["RoundAbandoned"],
        "sums": replayed["sums"],
        "models": replayed["models"],
        "replay": replayed["replay"],
    }


def _strike_by_turns(stage: Stage, gateway: GatewayProcess) -> Counter[str]:
    """Kill somebody at each beginning and end of an epoch, until there were enough of both."""
    kills: Counter[str] = Counter()
    turns, seen, give_up_s = itertools.cycle(TURNS), 0, time.monotonic() + WITHIN_S
    strikes: dict[str, Callable[[], None]] = {"gateway": lambda: _kill_gateway(gateway)}
    while True:
        kinds = Counter(type(event) for event in read(stage.log, PARTITION).rounds.events())
        turned = kinds[EpochOpened] + kinds[EpochDestroyed]
        if kinds[EpochDestroyed] >= KEYS_DESTROYED_MIN and kills.total() >= KILLS_MIN:
            return kills
        assert time.monotonic() < give_up_s, f"{kinds} after {kills}\n{stage.tails()}"
        if turned == seen:
            time.sleep(0.05)
            continue
        seen = turned
        for actor in next(turns):
            strikes.get(actor, lambda actor=actor: _kill_worker(stage, actor))()
            kills[actor] += 1
        # Somebody has to get on meanwhile, or nothing but openings would be tried.
        stage.until_version(TASK, stage.version(TASK) + 1, timeout_s=WITHIN_S)


def _kill_gateway(gateway: GatewayProcess) -> None:
    gateway.kill()
    gateway.start()


def _kill_worker(stage: Stage, actor: str) -> None:
    """The process itself; its supervisor starts it again."""
    [worker] = [one for one in stage.workers if one.actor == actor]
    found: list[psutil.Process] = []
    stage.until(lambda: found.extend([child] if (child := worker.child()) else []) or found, actor, timeout_s=WITHIN_S)
    found[0].kill()


@contextmanager
def _devices(url: str, operator: str, folder: Path) -> Iterator[None]:
    """A fleet that knows nothing but the gateway, and its end whatever happens."""
    words = ["--operator-public-key", operator, "--folder", str(folder / "elsewhere"), "fleet", "--gateway", url]
    words += ["--task", TASK, "--devices", str(BEHIND_GATEWAY), "--processes", "1", "--allow", FLAT_LEARNER]
    with console_beside(words, log=folder / "fleet.log"):
        yield


if __name__ == "__main__":
    main()
