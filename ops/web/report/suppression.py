"""Which sizes of groups a table may show, so that none of the others can be computed from what it shows.

A group of fewer than `SMALL` is never shown. Where one alone is left out, a total gives it away, and where the smallest
of the others joins it, whoever knows that rule may compute it again. So all groups below a line stand together, the
line is one of a fixed ladder, and which of them it is follows from what is shown, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A usual bound of official statistics. It is no option: two reports of different bounds would show what is between.
SMALL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSizes:
    """What may be shown: `groups` with their sizes, the largest first, and how many are in the others together.

    `line`: the others are all smaller; None where nobody is left out, or where no group can be shown. `others` and
    `total` are None where they would give a group away; others is 0 where there are none.
    """

    groups: list[tuple[str, int]]
    others: int | None
    total: int | None
    line: int | None = None


def suppress(sizes: Mapping[str, int], *, small: int = SMALL) -> ShownSizes:
    """The sizes that may be shown. `sizes` are positive: a group without members has no row."""
    total = sum(sizes.values())
    line, largest = small, max(sizes.values(), default=0)
    while line <= largest:
        hidden = [size for size in sizes.values() if size < line]
        if not hidden or _hides_each(len(hidden), sum(hidden), line=line, small=small):
            groups = sorted(((name, size) for name, size in sizes.items() if size >= line), key=lambda one: -one[1])
            return ShownSizes(groups=groups, others=sum(hidden), total=total, line=line if hidden else None)
        # Doubled, whatever the sizes are: a line that is fitted to them would tell where they are.
        line *= 2
    # No group can be shown; the total alone is one where it says nothing about a group.
    is_told = _hides_each(len(sizes), total, line=None, small=small)
    return ShownSizes(groups=[], others=total if is_told else None, total=total if is_told else None)


def _hides_each(count: int, together: int, *, line: int | None, small: int) -> bool:
    """Whether any one of so many groups may have any size from 1 to `small`, as far as their sum and the line tell."""
    if count < 2:
        return False
    # Who sees a raised line knows that a lower one told too much: of three or more, that nearly all of them are tiny.
    enough = 2 * small if count > 2 and line not in (None, small) else small
    # The others may be as small as 1 each, or as large as the line allows: neither end must tie one of them down.
    can_be_large = together - (count - 1) >= enough
    return can_be_large and (line is None or together - 1 <= (count - 1) * (line - 1))
