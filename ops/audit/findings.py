"""What checks of a log find: which record is wrong and why, and how much was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from streams.journals import JournalBroken
from streams.log import Place, TopicPartition


@dataclass(frozen=True, slots=True)
class Finding:
    """Where something is wrong, and what; `offset` is None where no record of the log is to blame alone."""

    place: TopicPartition
    offset: int | None
    what: str
    task: str = ""

    def __str__(self) -> str:
        place = self.place if self.offset is None else Place(self.place, self.offset)
        task = f"task {self.task}: " if self.task else ""
        # One line each: it may quote a stranger, who could write a verdict of his own into a second one.
        return f"{place}: {task}{self.what}".replace("\n", "\\n")

    @classmethod
    def from_journal(cls, broken: JournalBroken) -> Finding:
        """The finding that a journal's chain is broken."""
        return cls(broken.place.at, broken.place.offset, broken.what)


@dataclass(slots=True)
class Findings:
    """What a replay saw. Versions are those that a round made: `compared` of them were recomputed and are the same.

    `unchecked` names versions and why not; `reached` the newest version folded of each task; `stopped` counts the
    partitions of which the fold ended where it was asked to.
    """

    events: int = 0
    decisions: int = 0
    sums: int = 0
    models: int = 0
    charges: int = 0
    versions: int = 0
    compared: int = 0
    stopped: int = 0
    unchecked: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    differences: list[Finding] = field(default_factory=list)

    def __add__(self, other: Findings) -> Findings:
        return Findings(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Findings)})

    def add_difference(self, finding: Finding) -> None:
        """Note a difference, once: the chains are checked first, and a fold meets the same fault again."""
        if finding not in self.differences:
            self.differences.append(finding)

    @property
    def verdict(self) -> str:
        """The first difference, or the word identical; with it, where not everything was checked, how much was."""
        if self.differences:
            return str(self.differences[0])
        asked = ", as far as was asked" if self.stopped else ""
        # The word alone is a claim about every version, so anything that was not recomputed is said beside it.
        if not self.unchecked and self.compared == self.versions:
            return f"identical{asked}"
        return f"identical{asked}, as far as it could be checked: {self.compared} of {self.versions} models"

    def plain(self) -> dict[str, Any]:
        """The verdict and the figures, as one JSON object."""
        names = ("events", "decisions", "sums", "models", "charges", "compared", "versions", "reached", "unchecked")
        figures = {name: getattr(self, name) for name in names}
        return {"replay": self.verdict, **figures, "differences": [str(finding) for finding in self.differences]}
