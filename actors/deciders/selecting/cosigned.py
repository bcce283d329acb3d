"""Versions of a masked task that wait until every helper has co-signed their model; before that no lease leads there.

So a helper that is away delays what is trained from a new version, and not what is under way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from schemas.events import CosignatureHeard, ModelPublished
from schemas.masking.statements import join_statements


@dataclass(slots=True)
class Cosigned:
    """Of one task: versions that `wait`, oldest first, and the helpers' own words of each version, by their number."""

    waiting: list[ModelPublished] = field(default_factory=list)
    words: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def hear(self, heard: CosignatureHeard, *, helpers: int) -> list[ModelPublished]:
        """Take note of a word; the versions that wait no longer with it."""
        words = self.words[heard.version] = {**self.words.get(heard.version, {}), heard.helper: heard.statement}
        if len(words) < helpers:
            return []
        # What is co-signed later stands for what was published before it.
        free = [published for published in self.waiting if published.version <= heard.version]
        self.waiting = self.waiting[len(free) :]
        return free

    def forget(self, newest: int, named: Collection[int]) -> None:
        """Of older versions only what a lease in flight is answered with stays."""
        self.words = {version: said for version, said in self.words.items() if version >= newest or version in named}

    def join(self, version: int) -> bytes | None:
        """What each helper has signed of a version, for devices; None where nobody did."""
        said = self.words.get(version)
        return None if said is None else join_statements(tuple(each for _, each in sorted(said.items())))
