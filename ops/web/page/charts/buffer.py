"""The buffer itself: K cells that fill as updates are admitted. A cell is a device, its colour the staleness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import htpy as h

from ops.web.page.formats import shorten

# From here on a cell is too small for text, and a cell more would only be noise.
LARGE_MAX, SMALL_MAX = 72, 1_000
STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An admitted update: who sent it, how stale it was, and the page of its record."""

    device: str
    staleness: int
    weight: float
    link: str
    cohort: str = ""
    zeroed: str | None = None


def draw_buffer(cells: Sequence[Cell], *, size: int, staleness_max: int) -> h.Node:
    """All `size` cells; of more than fit the first ones, and how many are left out."""
    shown = min(size, SMALL_MAX)
    kind = "large" if size <= LARGE_MAX else "small"
    places = [_draw_cell(cell, staleness_max=staleness_max, is_large=kind == "large") for cell in cells[:shown]]
    # Empty cells are drawn too: what is missing is the point of the picture.
    places += [h.li(".cell.vacant", aria_hidden="true")] * (shown - len(places))
    return [
        h.ol(f".buffer.{kind}", aria_label=f"{len(cells)} of {size} places of the round are taken")[places],
        h.p(".note")[f"{size - shown} places more are not drawn."] if shown < size else None,
        _draw_legend(staleness_max),
    ]


def find_step(staleness: int, staleness_max: int) -> int:
    """The colour of a staleness, 0 for fresh to STEPS for the oldest that is admitted."""
    # Fresh is a colour of its own: one version late is already something to look at.
    if staleness <= 0:
        return 0
    return max(1, min(STEPS, round(STEPS * staleness / max(staleness_max, 1))))


def _draw_cell(cell: Cell, *, staleness_max: int, is_large: bool) -> h.Element:
    about = f"device {shorten(cell.device)}{f' ({cell.cohort})' if cell.cohort else ''}, staleness {cell.staleness}"
    about += f", weight {cell.weight:.3g}" + (f", counts as zero: {cell.zeroed}" if cell.zeroed else "")
    # Colour alone would tell those nothing who see none, hence the words in `about`.
    step = find_step(cell.staleness, staleness_max)
    return h.li(class_=["cell", f"t{step}", {"zeroed": cell.zeroed is not None}])[
        h.a(href=cell.link, title=about)[
            # The number says what the colour says, to whoever cannot tell the colours apart.
            [h.b[str(cell.staleness)], " ", h.i[cell.device[:4]], " "] if is_large else None,
            h.span(".unseen")[about],
        ]
    ]


def _draw_legend(staleness_max: int) -> h.Element:
    return h.p(".legend")[
        "fresh",
        (h.span(f".swatch.t{step}", aria_hidden="true") for step in range(STEPS + 1)),
        f"staleness {staleness_max}",
    ]
