"""The curves of a soak as SVG: one panel a figure, one line a life, a mark where somebody was killed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.trials.soak.kills import Kill
from tests.trials.soak.sampling import Sample

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 230, 56, 190, 26, 26
LEGEND_MAX = 12
COLOURS = (
    *("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f", "#e0a030", "#2f4b7c", "#a05195", "#f95d6a", "#00798c", "#6b705c"),
    *("#bc4749", "#386641"),
)
PANELS = {
    "memory": "memory of its own, MiB",
    "threads": "threads",
    "handles": "open handles",
    "lag": "records not decided",
    "disk": "on the disk, MiB",
}
Lives = dict[float, list[tuple[float, float]]]


def draw(samples: Sequence[Sample], kills: Sequence[Kill]) -> str:
    """All figures below each other, over the same minutes."""
    parts = []
    for row, (figure, title) in enumerate(PANELS.items()):
        found: dict[str, Lives] = {}
        for each in samples:
            # Supervisors do nothing but watch; the table has them.
            if each.figure == figure and "watches" not in each.part:
                found.setdefault(each.part, {}).setdefault(each.life, []).append((each.at_s, each.value))
        drawn = _draw_panel(title, found, kills) if found else ""
        parts.append(f'<g transform="translate(0,{row * HEIGHT})">{drawn}</g>')
    size = f'width="{WIDTH}" height="{HEIGHT * len(PANELS)}" viewBox="0 0 {WIDTH} {HEIGHT * len(PANELS)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _draw_panel(title: str, found: dict[str, Lives], kills: Sequence[Kill]) -> str:
    points = [point for lives in found.values() for life in lives.values() for point in life]
    last_s, most = max(at_s for at_s, _ in points) or 1.0, max(value for _, value in points) or 1.0

    def across(at_s: float) -> float:
        return LEFT + at_s / last_s * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM)

    drawn = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = up(share * most)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        drawn.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{share * most:,.4g}</text>')
        drawn.append(
            f'<text x="{across(share * last_s):.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
            f"{share * last_s / 60:.3g} min</text>"
        )
    drawn += [
        f'<path d="M{across(kill.at_s):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#bbb" stroke-dasharray="2 3">'
        f"<title>{escape(kill.name)} is killed</title></path>"
        for kill in kills
    ]
    # The highest first, as they stand above each other.
    order = sorted(found, key=lambda part: -max(value for life in found[part].values() for _, value in life))
    for number, part in enumerate(order):
        colour = COLOURS[number % len(COLOURS)]
        for life in found[part].values():
            line = " ".join(f"{across(at_s):.1f},{up(value):.1f}" for at_s, value in life)
            drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < LEGEND_MAX:
            y = TOP + 8 + 14 * number
            drawn.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}" fill="{colour}">{escape(part)}</text>')
    return "".join(drawn)
