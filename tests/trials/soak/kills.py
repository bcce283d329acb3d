"""Who is killed in which minute: drawn from a seed, each as often as the others; later on some are spared."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

# In the first minute everything still starts.
FIRST_S = 75.0
EVERY_S = 60.0
# From here on, of the whole, the spared live on.
SPARED_FROM = 1 / 3
# Within its minute a kill falls anywhere, so that it meets whatever happens to be under way.
WITHIN_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """`name` is killed at `at_s`."""

    at_s: float
    name: str


def draw_kills(seed: int, names: Sequence[str], *, seconds: float, spared: Collection[str] = ()) -> Iterator[Kill]:
    """Yield a kill a minute; nobody is killed twice before everybody was once, and the `spared` never after a third.

    What fills its memory by right for ten minutes has to live for longer, or nobody sees where that ends.
    """
    draw, left = random.Random(seed), list[str]()
    at_s = FIRST_S
    # The last one has a minute to be lived through.
    while at_s + EVERY_S <= seconds:
        there = [name for name in names if at_s < SPARED_FROM * seconds or name not in spared]
        left = [name for name in left if name in there] or draw.sample(there, len(there))
        yield Kill(at_s=round(at_s + draw.uniform(0, WITHIN_S), 1), name=left.pop())
        at_s += EVERY_S
