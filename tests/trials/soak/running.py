"""One soak: the product under load, a kill a minute, a look every few seconds; at its end everything is checked."""

from __future__ import annotations

import http.cookiejar
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import msgspec

from ops.operator import deployments, tasks
from schemas.topics import CATALOGUE, CHECKINS, UPDATES, partition_of
from streams.log import LogError, TopicPartition
from tests.judges.lawcheck import check_book, counts
from tests.judges.logbook import read, read_sealed
from tests.trials.soak.judging import Load, judge
from tests.trials.soak.kills import Kill, draw_kills
from tests.trials.soak.sampling import Sample, Sampler
from tests.worlds.deployment.product import BROKER, WORKERS, Product

LOOK_EVERY_S = 5.0
STARTED_WITHIN_S = 300.0
SETTLED_WITHIN_S = 300.0
JUDGED_VERSIONS_MAX = 500
PAGE_S = 10.0
PAGES = ("/tasks", "/tasks/digits", "/privacy", "/system")
Say = Callable[[str], None]


@dataclass(slots=True)
class Visitor:
    """Somebody who looks at the page all the time."""

    product: Product
    seen: int = 0
    missed: int = 0
    _opener: OpenerDirector | None = None

    def visit(self) -> None:
        """Look at each page once; log in again where the server is another one."""
        for path in PAGES:
            try:
                opener = self._opener or self._log_in()
                with opener.open(f"http://127.0.0.1:{self.product.ports['serve']}{path}", timeout=PAGE_S) as answer:
                    answer.read()
                self._opener, self.seen = opener, self.seen + 1
            # While it is dead nobody answers, and the one after it may know nobody.
            except (OSError, ValueError):
                self._opener, self.missed = None, self.missed + 1
                return

    def _log_in(self) -> OpenerDirector:
        lines = self.product.services.services["serve"].log.read_text(errors="replace").splitlines()
        address = next((line for line in lines if line.startswith("http")), "")
        opener = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
        opener.open(address, timeout=PAGE_S).close()
        return opener


@dataclass(slots=True, kw_only=True)
class Soak:
    """What came of it: figures of the run, and `rows`, one for each figure of each part."""

    seed: int
    minutes: float
    rate: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        grown = [f"{row['part']}: {row['figure']} grows" for row in self.rows if row["verdict"] == "grows"]
        found = [*grown, *self.figures["violations"]]
        if self.figures["replay"] != "identical":
            found.append(f"the replay is {self.figures['replay']}")
        if self.figures["unchecked"]:
            found.append(f"{self.figures['unchecked']} versions could not be checked")
        return found


def run(folder: Path, found: Soak, *, say: Say) -> Soak:
    """Start, soak, settle, judge. Raises TimeoutError where not even a first version came."""
    minutes = found.minutes
    with Product(folder, rate=found.rate) as product:
        product.start()
        say("Everything starts; the clock runs from the first version on.")
        product.until_version(1, timeout_s=STARTED_WITHIN_S)
        sampler = Sampler(product)
        names = [BROKER, *WORKERS, *(name for name in product.services.services if name not in WORKERS)]
        begun = _count_records(product)
        visitor = Visitor(product)
        _soak(found, sampler, visitor=visitor, names=names, say=say)
        found.samples = sampler.samples
        (folder / "samples.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, sampler.samples)))
        records = _count_records(product) - begun
        disk = [each.value for each in sampler.samples if (each.part, each.figure) == ("log", "disk")]
        hours = minutes / 60
        load = Load(
            records_h=records.total() / hours,
            inputs_h=(records[CHECKINS.name] + records[UPDATES.name]) / hours,
            log_mib_h=(disk[-1] - disk[0]) / hours,
            kills_h=len(found.kills) / hours,
        )
        found.rows = judge(sampler.samples, load)
        found.figures = {**asdict(load), "pages": visitor.seen, "pages_missed": visitor.missed}
        found.figures |= _settle(product, say)
    return found


def _soak(found: Soak, sampler: Sampler, *, visitor: Visitor, names: list[str], say: Say) -> None:
    due = list(draw_kills(found.seed, names, seconds=found.minutes * 60, spared=WORKERS))
    end_s = sampler.begun_s + found.minutes * 60
    while (now_s := time.time()) < end_s:
        for told in sampler.product.tend():
            say(told)
        if due and now_s - sampler.begun_s >= due[0].at_s:
            kill = due.pop(0)
            say(f"{now_s - sampler.begun_s:5.0f} s: kill -9 {sampler.product.kill(kill.name)}: {kill.name}")
            found.kills.append(kill)
        sampler.look()
        visitor.visit()
        time.sleep(max(0.0, LOOK_EVERY_S - (time.time() - now_s)))


def _count_records(product: Product) -> Counter[str]:
    """How far each topic is, over all its partitions."""
    places = [TopicPartition(topic.name, number) for topic in CATALOGUE for number in range(product.log.partitions)]
    found: Counter[str] = Counter()
    for at, bounds in product.log.list_bounds(places).items():
        found[at.topic] += bounds.end
    return found


def _settle(product: Product, say: Say) -> dict[str, Any]:
    """Close the tasks, let everything have its outcome, end everybody, and judge what stands in the log."""
    say("The tasks are closed; everything has to have its outcome.")
    for task in product.tasks:
        tasks.close(product.log, task, key=product.key)
    partitions = sorted({partition_of(task, product.log.partitions) for task in product.tasks})
    give_up_s = time.monotonic() + SETTLED_WITHIN_S
    while _find_violations(product, partitions) and time.monotonic() < give_up_s:
        time.sleep(5.0)
    product.services.end_services()
    counted = counts(product.log, partitions)
    # The judge's own sums and noise are slow on purpose; of a long run the replay alone recomputes each model.
    has_sums = counted["ModelPublished"] <= JUDGED_VERSIONS_MAX
    violations = _find_violations(product, partitions, has_sums=has_sums)
    say("Replaying the log from its first event, in a fresh process …")
    replayed = product.ask("replay", "--full", "--json") or {}
    wanted = ("updates", "UpdateAdmitted", "duplicate", "expired", "ModelPublished", "claims", "zombies")
    return {
        "violations": violations[:20],
        "judged_sums": has_sums,
        "replay": replayed.get("replay"),
        "unchecked": len(replayed.get("unchecked", ())),
        "events": replayed.get("events"),
        "sums": replayed.get("sums"),
        "starts": dict(product.starts),
        **{name: counted[name] for name in wanted},
    }


def _find_violations(product: Product, partitions: list[int], *, has_sums: bool = False) -> list[str]:
    key, log, epochs = product.key, product.log, product.settings.epoch_keys
    with suppress(LogError):
        sealed, deployment = read_sealed(log), deployments.name_deployment(log, key)
        noise = key.derive_noise(deployment).secret

        def look(partition: int) -> list[str]:
            who = {"operator": key.public_key, "deployment": deployment, "sealed": sealed}
            return check_book(log, read(log, partition, noise_key=noise, **who), settled=True, sums=has_sums and epochs)

        with ThreadPoolExecutor() as threads:
            return [fault for faults in threads.map(look, partitions) for fault in faults]
    return ["the log does not answer"]
