"""What happened, asked of the topics alone: kafka-python and msgpack, and nothing of what it is to be compared with.

It believes every record, for it reads logs in which no stranger writes; of superseded writers it knows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import msgpack
from kafka import KafkaConsumer, TopicPartition

JOURNALS = ("selections", "rounds", "ledger")
PLAIN = ("tasks", "evaluations", "updates")
WEIGHT_ONE, CLIP_ONE = 1 << 20, 1 << 16

Fact = dict[str, Any]


@dataclass(slots=True)
class PlainLog:
    """Every fact of a log by its kind, oldest first; each has `at`, its record's place, and `at_ms`, its append time.

    A fact of a journal has `input` too: the place in `updates` or elsewhere that it decides, and which of the messages
    there. A fact outside of journals has that as its `number`.
    """

    facts: defaultdict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, client: Mapping[str, Any], prefix: str) -> PlainLog:
        """All that is committed by now."""
        log = cls()
        for topic in (*PLAIN, *JOURNALS):
            for partition, records in _read_topic(client, f"{prefix}.{topic}").items():
                log._take(topic, partition, records)
        for told in log.facts.values():
            told.sort(key=lambda fact: (fact["at_ms"], fact["at"], fact["number"]))
        return log

    def _take(self, topic: str, partition: int, records: list[Any]) -> None:
        claim = -1
        for item in records:
            at, at_ms = (topic, partition, item.offset), item.timestamp
            if topic in PLAIN:
                for number, message in enumerate(_split(item.value)):
                    self._add(_open(message), at, number=number, at_ms=at_ms, bytes=len(message))
                continue
            payload = _open(item.value)
            if payload["type"] == "WriterClaimed/1":
                claim = item.offset
            elif payload.get("claim") == claim:
                number = 0
                for decision in payload["decisions"]:
                    place = (decision["topic"], partition, decision["offset"], decision.get("message", 0))
                    for event in decision["events"]:
                        self._add(event, at, number=number, at_ms=at_ms, input=place)
                        number += 1

    def _add(self, event: Fact, at: tuple[str, int, int], **more: Any) -> None:
        self.facts[event["type"].partition("/")[0]].append({**event, "at": at, **more})

    def of(self, kind: str, **wanted: object) -> list[Fact]:
        """The facts of a kind whose fields are these."""
        return [fact for fact in self.facts[kind] if all(fact[name] == value for name, value in wanted.items())]

    def one(self, kind: str, **wanted: object) -> Fact | None:
        """The only such fact; None where there is none."""
        found = self.of(kind, **wanted)
        assert len(found) <= 1, (kind, wanted, found)
        return found[0] if found else None

    # --- what explain, rounds, updates, ledger and devices say -------------------------------------------------------

    def list_versions(self, task: str) -> list[tuple[Any, ...]]:
        """Version, round, members, digest of the model, root, append time, and place of the decision."""
        return [
            (
                fact["version"],
                fact["round"],
                fact["members"],
                fact["model"]["sha256"].hex(),
                fact["members_root"] and fact["members_root"].hex(),
                fact["at_ms"],
                *fact["at"],
            )
            for fact in self.of("ModelPublished", task=task)
        ]

    def list_updates(self, task: str) -> list[tuple[Any, ...]]:
        """Id, outcome, whose, cohort, round, base, staleness, weight, clip, zeroed, digest, sizes, times, and place."""
        decided = [(fact, "admitted") for fact in self.of("UpdateAdmitted", task=task)]
        decided += [(fact, fact["reason"]) for fact in self.of("UpdateRefused", task=task)]
        sent = {(*fact["at"], fact["number"]): fact for fact in self.facts["UpdateSubmitted"]}
        return [self._tell_update(fact, outcome, sent.get(fact["input"])) for fact, outcome in decided]

    def _tell_update(self, fact: Fact, outcome: str, sent: Fact | None) -> tuple[Any, ...]:
        lease, is_in = self.one("LeaseGranted", lease=fact["update"]), outcome == "admitted"
        assert lease is not None
        assert sent is not None
        return (
            fact["update"],
            outcome,
            fact["device"],
            lease["cohort"],
            fact.get("round"),
            lease["version"],
            fact.get("staleness"),
            fact["weight"] / WEIGHT_ONE if is_in else None,
            fact["clip_scale"] / CLIP_ONE if is_in else None,
            fact.get("zeroed"),
            fact["body"]["sha256"].hex() if is_in else None,
            sent["body"]["size"],
            sent["bytes"],
            lease["at_ms"],
            sent["at_ms"],
            fact["at_ms"],
            *fact["at"],
        )

    def list_rounds(self, task: str) -> list[tuple[Any, ...]]:
        """Number, status, members, noise, rho, epsilon, staleness p50 and p95, seconds, version, and sum of weights."""
        return [self._tell_round(fact) for fact in self.of("RoundOpened", task=task)]

    def _tell_round(self, opened: Fact) -> tuple[Any, ...]:
        key = {"task": opened["task"], "round": opened["round"]}
        proposed, charged = self.one("RoundProposed", **key), self.one("RoundCharged", **key)
        published, abandoned = self.one("ModelPublished", **key), self.one("RoundAbandoned", **key)
        members = self.of("UpdateAdmitted", **key)
        ended = published or abandoned
        status = "published" if published else "proposed" if proposed else "filling"
        mechanism = proposed and proposed["mechanism"]
        return (
            opened["round"],
            f"abandoned: {abandoned['reason']}" if abandoned else status,
            proposed["members"] if proposed else len(members),
            mechanism["sigma"] if mechanism else None,
            charged and charged["rho_total"],
            charged and charged["epsilon"],
            _interpolate([fact["staleness"] for fact in members], 0.5),
            _interpolate([fact["staleness"] for fact in members], 0.95),
            (ended["at_ms"] - opened["at_ms"]) / 1000 if ended else None,
            published and published["version"],
            proposed and proposed["weight_sum"],
        )

    def list_ledger(self, task: str) -> list[tuple[Any, ...]]:
        """Round, outcome, noise multiplier, busiest device, rho, epsilon, delta, and place."""
        charged = [
            (
                fact["round"],
                "charged",
                fact["mechanism"]["noise_multiplier"],
                fact["participations_max"],
                fact["rho_total"],
                fact["epsilon"],
                fact["delta"],
                *fact["at"],
            )
            for fact in self.of("RoundCharged", task=task)
        ]
        withheld = [
            (fact["round"], f"withheld: {fact['reason']}", None, fact["participations_max"], *[None] * 3, *fact["at"])
            for fact in self.of("RoundWithheld", task=task)
        ]
        return [*charged, *withheld]

    def list_devices(self, task: str) -> list[tuple[Any, ...]]:
        """Device, newest cohort, leases, admitted, refused, expired, abandoned, mean staleness, first and last time."""
        leases: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in self.of("LeaseGranted", task=task):
            leases[fact["device"]].append(fact)
        return [self._tell_device(task, device, granted) for device, granted in leases.items()]

    def _tell_device(self, task: str, device: str, granted: list[Fact]) -> tuple[Any, ...]:
        of = {"task": task, "device": device}
        staleness = [fact["staleness"] for fact in self.of("UpdateAdmitted", **of)]
        ends = [fact for fact in self._find_ends(task).values() if fact["device"] == device]
        return (
            device,
            granted[-1]["cohort"],
            len(granted),
            len(staleness),
            len(self.of("UpdateRefused", **of)),
            sum(fact["outcome"] == "expired" for fact in ends),
            sum(fact["outcome"] == "abandoned" for fact in ends),
            mean(staleness) if staleness else None,
            granted[0]["at_ms"],
            granted[-1]["at_ms"],
        )

    def list_leases(self, task: str) -> list[tuple[Any, ...]]:
        """Lease, device, base version, times of grant and deadline, and how, why, in which round and when it ended."""
        closed = self._find_ends(task)
        ends = ("outcome", "reason", "round", "at_ms")
        return [
            (
                *(fact[name] for name in ("lease", "device", "version", "at_ms", "deadline_ms")),
                *(closed.get(fact["lease"], {}).get(name) for name in ends),
            )
            for fact in self.of("LeaseGranted", task=task)
        ]

    def _find_ends(self, task: str) -> dict[str, Fact]:
        # An update that was decided late closes its lease once more.
        return {fact["lease"]: fact for fact in self.of("LeaseClosed", task=task)}

    def count_checkins(self, task: str) -> list[tuple[str, int]]:
        """How many were granted, or declined, by reason."""
        found = Counter({"granted": len(self.of("LeaseGranted", task=task))})
        for fact in self.of("CheckinsDeclined", task=task):
            found.update(fact["counts"])
        return [item for item in found.items() if item[1]]

    def count_refusals(self, task: str) -> list[tuple[str, int]]:
        """How many updates are in no round, by reason."""
        found = Counter(fact["reason"] for fact in self.of("UpdateRefused", task=task))
        for fact in self.of("UpdatesDeclined", task=task):
            found.update(fact["counts"])
        return [*found.items()]

    def list_scores(self, task: str) -> list[tuple[Any, ...]]:
        """Version, cohort, metric, value and examples."""
        return [
            (fact["version"], fact["cohort"], name, value, fact["samples"])
            for fact in self.of("VersionEvaluated", task=task)
            for name, value in fact["metrics"].items()
        ]

    def list_meanwhile(self, task: str, version: int) -> list[tuple[Any, ...]]:
        """Who was refused between the opening of a version's round and its release: why, whose, and where."""
        published = self.one("ModelPublished", task=task, version=version)
        assert published is not None
        opened = self.one("RoundOpened", task=task, round=published["round"])
        assert opened is not None
        return [
            (fact["reason"], fact["device"], fact["update"], fact["at_ms"], *fact["at"])
            for fact in self.of("UpdateRefused", task=task)
            if opened["at_ms"] <= fact["at_ms"] <= published["at_ms"]
        ]


def _read_topic(client: Mapping[str, Any], topic: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    with closing(
        KafkaConsumer(group_id=None, isolation_level="read_committed", enable_auto_commit=False, **client)
    ) as consumer:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        # A marker follows each transaction, so that the position passes the last record.
        while any(consumer.position(at) < ends[at] for at in places):
            for at, records in consumer.poll(timeout_ms=200).items():
                found.setdefault(at.partition, []).extend(records)
    return found


def _split(value: bytes) -> list[bytes]:
    """The messages of a record: those that it packs, or the one that it is."""
    whole = msgpack.unpackb(value)
    return whole[1] if isinstance(whole, list) and whole[0] == "Packed/1" else [value]


def _open(message: bytes) -> Fact:
    """What a message says. A host's tick is signed by nobody, and says nothing but that time has passed."""
    said = msgpack.unpackb(message)
    opened: Fact = msgpack.unpackb(said[0]) if isinstance(said, list) else said
    return opened


def _interpolate(values: list[int], share: float) -> float | None:
    """The quantile between the two nearest values, as in numpy and SQL's percentile_cont."""
    if not values:
        return None
    ordered, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
