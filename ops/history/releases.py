"""The values that measure tasks have released, as facts beside the events, which name a body and hold no values.

They are read from `models`, which shows everybody the same: of a private task the values with their noise. The exact
sums stand elsewhere, and are not asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import Any

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.facts import FACTS, PLACE, Row, StatisticReleased
from schemas.identifiers import BodyRef
from schemas.topics import MODELS
from streams.log import EventLog

# A release of more is a model in disguise, and a row for each of its elements would be the whole history.
ELEMENTS_MAX = 1 << 16
FETCH_S = 10.0
_BODY = ("topic", "partition", "offsets", "sha256", "size", "codec")
_UNREAD = f"""
WITH created AS (
    SELECT task, tensors, policy ->> 'kind' AS kind FROM facts.task_created
    QUALIFY row_number() OVER (PARTITION BY task ORDER BY at_partition, at_offset) = 1
)
SELECT {", ".join(f"published.{name}" for name in PLACE)}, task, published.version, created.tensors,
    {", ".join(f"published.model_{name}" for name in _BODY)}
FROM facts.model_published AS published JOIN created USING (task)
WHERE created.kind = 'measure' AND published.version > 0 AND NOT EXISTS (
    FROM facts.statistic_released AS known WHERE known.task = published.task AND known.version = published.version
)
ORDER BY published.at_ms, published.at_partition, published.at_offset
"""  # noqa: S608 - the names are those of columns


@dataclass(frozen=True, slots=True)
class _Release:
    place: Row
    task: str
    version: int
    # Of each statistic its name and how many elements it has, in the order of the vector.
    sizes: tuple[tuple[str, int], ...]
    body: BodyRef

    @classmethod
    def parse(cls, row: Row) -> _Release:
        """From a row of the question above."""
        place, (task, version, specs, *body) = row[: len(PLACE)], row[len(PLACE) :]
        fields = dict(zip(_BODY, body, strict=True))
        ref = BodyRef(
            **{**fields, "offsets": tuple(json.loads(fields["offsets"])), "sha256": bytes.fromhex(fields["sha256"])}
        )
        return cls(place, task, version, tuple((name, prod(shape)) for name, shape, *_ in json.loads(specs)), ref)

    def tell(self, values: Sequence[float] | None) -> Iterator[StatisticReleased]:
        """A fact for each statistic; without values where there are none to be had, so that nobody looks again."""
        at = 0
        for name, size in self.sizes:
            numbers = None if values is None else tuple(values[at : at + size])
            yield StatisticReleased(task=self.task, version=self.version, statistic=name, numbers=numbers)
            at += size


def store_statistics(log: EventLog, history: HistoryFile) -> int:
    """Store the values of all releases that are in the tables without theirs; how many statistics these are.

    Raises LogUnavailable where no broker answers for ten seconds.
    """
    places, facts = list[Row](), list[Any]()
    for row in history.look(_UNREAD):
        release = _Release.parse(row)
        told = [*release.tell(_read(log, release))]
        places += [release.place] * len(told)
        facts += told
    if facts:
        table = FACTS[StatisticReleased]
        # Without a mark: what is not stored yet is found again by the question, whenever this process has died.
        history.write({table.name: [table.make_columns(places, facts)]}, {})
    return len(facts)


def _read(log: EventLog, release: _Release) -> list[float] | None:
    # Numbers and bodies are heavy to import, and few histories have a release to look at.
    from schemas import tensors
    from streams import bodies

    size = sum(elements for _, elements in release.sizes)
    if size > ELEMENTS_MAX or not _has_models(log, release.body.partition):
        return None
    with closing(bodies.BodyReader(log, release.body.topic, release.body.partition)) as reader:
        data = reader.fetch(release.body, size_max=tensors.model_bytes_max(size), timeout_s=FETCH_S)
    # The policy says how many versions are kept, and a history may be built when they are gone.
    if isinstance(data, bodies.Absent):
        return None
    return [float(value) for value in tensors.unpack(data, release.body.codec, count=size)]


def _has_models(log: EventLog, partition: int) -> bool:
    """Whether there are bodies: an export may have been made without."""
    listed = getattr(log, "list_partitions", None)
    return listed is None or partition in listed([MODELS.name])
