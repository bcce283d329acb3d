"""What a run decided: which update of whom is in which round, how stale, and the bits of every model.

Two runs that agree in it agree in everything that a curve or a table is made of. Their logs still differ in bytes that
say nothing: salts, nonces, names of uploads and the operator's signatures, which no seed may decide.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from schemas.events import ModelPublished, UpdateAdmitted
from schemas.journal import Decision


@dataclass(slots=True)
class Trace:
    """An observer of the aggregator that keeps a line for each admission and each version."""

    lines: list[str] = field(default_factory=list)

    def note_restored(self, state: object) -> None:
        """A run begins with an empty journal."""

    def note_replayed(self, decision: Decision) -> None:
        """The same."""

    def note_decided(self, decision: Decision, seq: int) -> None:
        """Keep what the decision says of members and models."""
        for event in decision.events:
            match event:
                case UpdateAdmitted():
                    # By the digest of its body, so that runs which only look alike differ here.
                    told = f"{event.device} {event.version} {event.staleness} {event.weight} {event.clip_scale}"
                    self.lines.append(f"round {event.round}: {told} {event.body.sha256.hex()}")
                case ModelPublished():
                    self.lines.append(f"version {event.version}: {event.model.sha256.hex()}")

    def compute_sha256(self) -> str:
        """A digest of all of it."""
        # By lines, so that whoever compares two runs finds the first that differs.
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
