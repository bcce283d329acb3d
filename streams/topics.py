"""What a topic must look like, and what a broker says of it; both logs check theirs against the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.identifiers import PARTITIONS_MAX
from schemas.topics import PARTITIONS_DEFAULT, TRANSACTION_TIMEOUT_MAX_MS
from streams.log import TopicUnfit
from streams.notes import Notes

# A topic with another of these is not a worse one but a wrong one: deadlines and histories depend on the first two, and
# with the last two nobody can write a record that its readers cannot open, or that fills their memory.
_SETTINGS_CHECKED = ("message.timestamp.type", "cleanup.policy", "compression.type", "max.message.bytes")
TRANSACTION_TIMEOUT = "transaction.max.timeout.ms"
_TRANSACTIONS_WANTED = f"at most {TRANSACTION_TIMEOUT_MAX_MS}"

logger = Notes(__name__)


class TopicSpec(Protocol):
    """What is needed of a row of the catalogue to create its topic."""

    @property
    def name(self) -> str:
        """Its name in the catalogue."""

    @property
    def config(self) -> Mapping[str, str]:
        """The broker's settings for it."""


class TopicDescription(NamedTuple):
    """A topic as the broker describes it, with all its settings."""

    partitions: int
    config: Mapping[str, str]


def choose_partitions(specs: Sequence[TopicSpec], found: Mapping[str, TopicDescription], *, wanted: int | None) -> int:
    """The number of partitions for those of `specs` that are missing: as many as the first of them that there is.

    Raises TopicUnfit where another is wanted: more partitions would move tasks, whose place follows from the number.
    """
    default = PARTITIONS_DEFAULT if wanted is None else wanted
    number = next((found[spec.name].partitions for spec in specs if spec.name in found), default)
    if wanted not in (None, number):
        raise TopicUnfit(f"The topics have {number} partitions, not {wanted}, and their number never changes.")
    return _require_in_range(number)


def count_partitions(counts: Mapping[str, int]) -> int:
    """The number of partitions that all these topics have; the first of them sets it. Raises TopicUnfit."""
    if not counts:
        raise TopicUnfit("There are no topics. `fedlog topics create` creates them.")
    number = next(iter(counts.values()))
    if others := [f"topic {name}: partitions is {count}" for name, count in counts.items() if count != number]:
        raise TopicUnfit(f"{'; '.join(others)}, wanted {number} as in {next(iter(counts))}.")
    return _require_in_range(number)


def require_topics(
    specs: Sequence[TopicSpec],
    found: Mapping[str, TopicDescription],
    *,
    prefix: str = "",
    brokers: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Raise TopicUnfit, which names each topic and broker at fault, the setting, what was found and what is wanted.

    All have to have as many partitions as the first of `specs` that there is. `brokers` has the settings of each broker
    by its id; one that says nothing of its transactions is told in the log.
    """
    partitions = next((found[spec.name].partitions for spec in specs if spec.name in found), 0)
    problems = [
        f"topic {spec.name}: {problem}"
        for spec in specs
        for problem in find_problems(spec, found.get(spec.name), partitions=partitions)
    ]
    problems += _find_broker_problems(brokers or {})
    # All at once, so that an operator changes a cluster once.
    if problems:
        where = f" Under the prefix {prefix!r}." if prefix else ""
        raise TopicUnfit("; ".join(problems) + f".{where} Change it on the cluster, or choose another topic prefix.")


def find_problems(spec: TopicSpec, found: TopicDescription | None, *, partitions: int) -> Iterator[str]:
    """What is wrong with a topic: a sentence each, which begins with the name of the setting; None: it is missing."""
    if found is None:
        yield "it does not exist"
        return
    # A task lives in one partition of every topic: with another number it would be in different ones.
    if found.partitions != partitions:
        yield f"partitions is {found.partitions}, wanted {partitions}"
    if found.partitions > PARTITIONS_MAX:
        yield f"partitions is {found.partitions}, at most {PARTITIONS_MAX}"
    for key in _SETTINGS_CHECKED:
        wanted = spec.config.get(key)
        if wanted is not None and found.config.get(key) != wanted:
            yield f"{key} is {found.config.get(key)}, wanted {wanted}"


def _require_in_range(number: int) -> int:
    if not 1 <= number <= PARTITIONS_MAX:
        raise TopicUnfit(f"Topics have from 1 to {PARTITIONS_MAX} partitions, not {number}.")
    return number


def _find_broker_problems(brokers: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for broker, config in brokers.items():
        timeout_ms = config.get(TRANSACTION_TIMEOUT)
        if timeout_ms is None:
            # A cluster that is somebody else's may not tell; whether it is safe then only its owner can say.
            logger.warning("setting_unknown", broker=broker, setting=TRANSACTION_TIMEOUT, wanted=_TRANSACTIONS_WANTED)
        elif int(timeout_ms) > TRANSACTION_TIMEOUT_MAX_MS:
            yield f"broker {broker}: {TRANSACTION_TIMEOUT} is {timeout_ms}, wanted {_TRANSACTIONS_WANTED}"
