"""Who is killed in which minute: drawn from a seed, each as often as the others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# In the first minute everything still starts.
FIRST_S = 75.0
EVERY_S = 60.0
# Within its minute a kill falls anywhere, so that it meets whatever happens to be under way.
WITHIN_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """`name` is killed at `at_s`."""

    at_s: float
    name: str


def draw_kills(seed: int, names: Sequence[str], *, seconds: float) -> Iterator[Kill]:
    """Yield a kill a minute; nobody is killed twice before everybody was once."""
    draw, left = random.Random(seed), list[str]()
    at_s = FIRST_S
    # The last one has a minute to be lived through.
    while at_s + EVERY_S <= seconds:
        if not left:
            left = draw.sample(list(names), len(names))
        yield Kill(at_s=round(at_s + draw.uniform(0, WITHIN_S), 1), name=left.pop())
        at_s += EVERY_S
