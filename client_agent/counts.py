"""What devices count: what they did, and how often each reason ended a lease without a trained update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# A user's code can word its errors differently each time; what comes on top is counted together.
REASONS_MAX = 20
OTHER_REASONS = "other reasons"
REASON_LETTERS_MAX = 600

Reasons = dict[str, int]


@dataclass(slots=True)
class Counts:
    """What a device did since it was started."""

    checked_in: int = 0
    declined: int = 0
    trained: int = 0
    admitted: int = 0
    refused: int = 0
    untrained: int = 0  # sent as zero vectors, because training failed under a policy with privacy
    given_up: int = 0
    late: int = 0
    reasons: Reasons = field(default_factory=dict)  # why leases were given up, or ended in zero vectors

    def note_outcome(self, outcome: str) -> None:
        """One more update has its outcome."""
        self.admitted += outcome == "admitted"
        self.refused += outcome != "admitted"
        self.late += outcome == "expired"

    def note_reason(self, reason: str) -> None:
        """One more lease ended without a trained update."""
        # A new dictionary, because another thread may be reading this one.
        self.reasons = join_reasons(self.reasons, {reason[:REASON_LETTERS_MAX]: 1})

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


def join(one: Any, other: Any) -> Any:
    """Two values of one count: their sum, or of two texts the first."""
    match one:
        case str():
            return one or other
        case dict():
            return join_reasons(one, other)
        case _:
            return one + other


def join_reasons(one: Mapping[str, int], other: Mapping[str, int]) -> Reasons:
    """How often each reason occurred in both, the most common first; the rarest go into one."""
    # Nearly always one of them is empty, and a fleet adds up thousands of devices every second.
    if not one or not other:
        return dict(one or other)
    total = Counter(one)
    total.update(other)
    rest = total.pop(OTHER_REASONS, 0)
    ordered = total.most_common()
    if rest := rest + sum(count for _, count in ordered[REASONS_MAX:]):
        return {**dict(ordered[:REASONS_MAX]), OTHER_REASONS: rest}
    return dict(ordered)
