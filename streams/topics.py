"""What a topic must look like, and what a broker says of it; both logs check theirs against the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.log import TopicUnfit

# A topic with another of these is not a worse one but a wrong one: deadlines and histories depend on them.
_SETTINGS_CHECKED = ("message.timestamp.type", "cleanup.policy")


class TopicSpec(Protocol):
    """What is needed of a row of the catalogue to create its topic."""

    @property
    def name(self) -> str:
        """Its name in the catalogue."""

    @property
    def partitions(self) -> int:
        """How many partitions it has."""

    @property
    def config(self) -> Mapping[str, str]:
        """The broker's settings for it."""


class TopicDescription(NamedTuple):
    """A topic as the broker describes it, with all its settings."""

    partitions: int
    config: Mapping[str, str]


def require_topics(specs: Sequence[TopicSpec], found: Mapping[str, TopicDescription], *, prefix: str = "") -> None:
    """Raise TopicUnfit, which names each topic at fault, the setting, what was found and what is wanted."""
    problems = [f"topic {spec.name}: {problem}" for spec in specs for problem in _problems(spec, found.get(spec.name))]
    # All at once, so that an operator changes a cluster once.
    if problems:
        where = f" Under the prefix {prefix!r}." if prefix else ""
        raise TopicUnfit("; ".join(problems) + f".{where} Change it on the cluster, or choose another topic prefix.")


def _problems(spec: TopicSpec, found: TopicDescription | None) -> Iterator[str]:
    if found is None:
        yield "it does not exist"
        return
    # More partitions would move tasks: which one a task lives in follows from their number.
    if found.partitions != spec.partitions:
        yield f"partitions is {found.partitions}, wanted {spec.partitions}"
    for key in _SETTINGS_CHECKED:
        wanted = spec.config.get(key)
        if wanted is not None and found.config.get(key) != wanted:
            yield f"{key} is {found.config.get(key)}, wanted {wanted}"
