"""Draws series with matplotlib, for light and dark pages; the only importer of matplotlib below `fedlog`.

Colours are Okabe and Ito's, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color); each line has
a dash of its own as well, and its name at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ops.history.plots.series import Branch, Life, Series, average
from ops.settings import forget_notebook
from schemas.errors import EXIT_USAGE, FedlogError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("versions", "uploads", "time", "staleness", "participation")
FORMATS = (".png", ".svg", ".pdf")
# Page, text, grid; then the lines in turn.
_LIGHT = ("#ffffff", "#24292f", "#d8dee4", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"))
_DARK = ("#0f1419", "#d7dde4", "#2f3842", ("#56b4e9", "#e69f00", "#2ec4a0", "#e29ac2", "#f0e442", "#ff7f50"))
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)))
_AXIS = {"versions": "version", "uploads": "uploads, refused ones too", "time": "time since creation"}
_UNITS = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "hours"), (2 * 60, 60, "minutes"), (0, 1, "seconds"))


class NoPicture(FedlogError):
    """A picture cannot be drawn: matplotlib is missing, or the file's name asks for a format that it has not got."""

    exit_code = EXIT_USAGE
    code = "no_picture"


def require_drawable(path: Path) -> None:
    """Raises NoPicture, before anything is trained or asked."""
    forget_notebook()
    try:
        import matplotlib  # noqa: F401, ICN001 - whether it is there
    except ImportError as error:
        raise NoPicture("Pictures need matplotlib: pip install 'fedlog[plots]'.") from error
    if path.suffix.lower() not in FORMATS:
        raise NoPicture(f"{path}: name a file that ends in {', '.join(FORMATS)}.")


def draw_series(series: Sequence[Series], path: Path, *, panels: Sequence[str] = PANELS, dark: bool = False) -> Figure:
    """The panels asked for, each with all tasks in it, into `path`. Raises NoPicture."""
    figure, axes, style = _begin(path, len(panels), dark=dark)
    for panel, each in zip(panels, axes, strict=True):
        _PAINTERS[panel](each, series, colours=style[3], panel=panel)
        _dress(each, style)
    # One legend for all panels, above them: within one it would hide what some line does.
    handles, _ = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, [_describe(one) for one in series], loc="outside upper left", frameon=False)
    for text in legend.get_texts():
        text.set_color(style[1])
    return _save(figure, path)


def draw_comparison(groups: Mapping[str, Sequence[Series]], path: Path, *, dark: bool = False) -> Figure:
    """Each group's mean by version and by upload, and thin beside it each of its series. Raises NoPicture."""
    figure, axes, style = _begin(path, 2, dark=dark)
    for panel, each in zip(PANELS, axes, strict=False):
        for place, (name, group) in enumerate(groups.items()):
            for one in group:
                along = one.versions if panel == "versions" else one.uploads
                each.plot(along, one.values, color=style[3][place % len(style[3])], linewidth=0.7, alpha=0.45)
            _paint_curve(each, [average(name, group)], colours=style[3], panel=panel, first=place)
        _dress(each, style)
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper left", ncols=min(3, len(groups)), frameon=False)
    for text in legend.get_texts():
        text.set_color(style[1])
    return _save(figure, path)


def draw_ancestry(path: Path, *, lives: Sequence[Life], branches: Sequence[Branch], dark: bool = False) -> Figure:
    """A bar a task along time, and a line from the version that each branch starts from. Raises NoPicture."""
    figure, (axes,), style = _begin(path, 1, dark=dark, height=1.2 + 0.45 * len(lives))
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    _, text, _, colours = style
    rows = {life.task: row for row, life in enumerate(lives)}
    began = {life.task: _count_days(life.began) for life in lives}
    for row, life in enumerate(lives):
        colour = colours[row % len(colours)]
        axes.hlines(row, began[life.task], _count_days(life.ended), colors=colour, linewidth=5, capstyle="round")
        _write(axes, life.task, at=(began[life.task], row), shift=(0, 6), colour=text)
    for branch in branches:
        above, row = rows[branch.parent], rows[branch.task]
        start = _count_days(branch.at or lives[above].ended)
        dash: Literal["-", "--"] = "-" if branch.relation == "carries on" else "--"
        axes.vlines(start, above, row, colors=text, linewidth=1, linestyles=dash, zorder=0)
        axes.hlines(row, start, began[branch.task], colors=text, linewidth=1, linestyles=dash, zorder=0)
        where = "" if branch.version is None else f"@{branch.version} "
        _write(axes, f"{where}{branch.relation}", at=(start, row), shift=(2, -11), colour=text)
    axes.set(yticks=[], ylim=(len(lives) - 0.3, -0.8), xlabel="append time, UTC")
    # The default writes as many whole times as the axis has room for ticks, one over the other.
    ticks = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    times = ConciseDateFormatter(ticks, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set(major_locator=ticks, major_formatter=times)
    axes.margins(x=0.08)
    _dress(axes, style)
    return _save(figure, path)


def _begin(path: Path, panels: int, *, dark: bool, height: float = 0.0) -> tuple[Figure, list[Axes], Any]:
    require_drawable(path)
    from matplotlib.figure import Figure

    style = _DARK if dark else _LIGHT
    columns = 1 if panels == 1 else 2
    rows = -(-panels // columns)
    # A Figure of its own, not pyplot's: it needs no screen, and no one has to close it.
    figure = Figure(figsize=(5.4 * columns, height or 3.1 * rows), layout="constrained", facecolor=style[0])
    places = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for spare in places[panels:]:
        spare.set_axis_off()
    return figure, places[:panels], style


def _dress(axes: Axes, style: Any) -> None:
    page, text, grid, _ = style
    axes.set_facecolor(page)
    axes.tick_params(colors=text, labelsize=9)
    axes.grid(color=grid, linewidth=0.6)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(text)
    for side, spine in axes.spines.items():
        spine.set(visible=side in {"left", "bottom"}, color=grid)


def _paint_curve(axes: Axes, series: Sequence[Series], *, colours: Sequence[str], panel: str, first: int = 0) -> None:
    longest = max((one.seconds[-1] for one in series if one.seconds), default=0.0)
    _, unit_s, unit = next(each for each in _UNITS if longest >= each[0])
    for place, one in enumerate(series, first):
        along = {
            "versions": one.versions,
            "uploads": one.uploads,
            "time": [seconds / unit_s for seconds in one.seconds],
        }[panel]
        # A single point makes no line.
        axes.plot(
            along, one.values, label=one.name, marker="o" if len(one.values) == 1 else None, **_line(place, colours)
        )
    named = sorted({one.metric for one in series if one.metric})
    axes.set(
        xlabel=f"{_AXIS[panel]}, {unit}" if panel == "time" else _AXIS[panel], ylabel=", ".join(named) or "no score"
    )
    if panel != "time":
        _count_whole(axes.xaxis)
    if not any(one.values for one in series):
        _say_empty(axes, "nothing was scored yet")


def _paint_staleness(axes: Axes, series: Sequence[Series], *, colours: Sequence[str], panel: str) -> None:
    for place, one in enumerate(series):
        axes.plot(one.released, one.staleness_p50, label=one.name, **_line(place, colours))
        axes.fill_between(
            one.released,
            one.staleness_p50,
            one.staleness_p95,
            color=colours[place % len(colours)],
            alpha=0.18,
            linewidth=0,
        )
    axes.set(xlabel="version", ylabel=f"{panel}, median to 95th %")
    _count_whole(axes.xaxis)
    axes.set_ylim(bottom=0)


def _paint_participation(axes: Axes, series: Sequence[Series], *, colours: Sequence[str], panel: str) -> None:
    for place, one in enumerate(series):
        # Each device is a step as wide as a device, so that ten devices look like ten.
        axes.stairs(one.admitted, label=one.name, **_line(place, colours))
    axes.set(xlabel="devices, the busiest first", ylabel="updates that count")
    _count_whole(axes.xaxis, axes.yaxis)
    axes.set_ylim(bottom=0)


def _line(place: int, colours: Sequence[str]) -> dict[str, Any]:
    return {"color": colours[place % len(colours)], "linestyle": _DASHES[place % len(_DASHES)], "linewidth": 1.8}


def _count_days(when: datetime) -> float:
    from matplotlib.dates import date2num

    return float(date2num(when))  # type: ignore[no-untyped-call]


def _write(axes: Axes, text: str, *, at: tuple[float, float], shift: tuple[int, int], colour: str) -> None:
    # A dollar in a name would begin a formula.
    axes.annotate(text, at, xytext=shift, textcoords="offset points", color=colour, fontsize=9, parse_math=False)


def _count_whole(*axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    # There is no version 2.5, and no half device.
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))


def _describe(one: Series) -> str:
    score = f"{one.metric} {one.values[-1]:.4g} at version {one.versions[-1]}" if one.values else "not scored"
    return f"{one.name}: {score}, {sum(one.admitted):,} updates of {sum(map(bool, one.admitted)):,} devices"


def _say_empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#8b949e")


def _save(figure: Figure, path: Path) -> Figure:
    import matplotlib as mpl

    # The same numbers give the same file: no date in it, and names within an SVG that are not drawn by chance.
    with mpl.rc_context({"svg.hashsalt": "fedlog", "svg.fonttype": "none"}):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, facecolor=figure.get_facecolor(), dpi=150, metadata=metadata)
    return figure


_PAINTERS = {
    "versions": _paint_curve,
    "uploads": _paint_curve,
    "time": _paint_curve,
    "staleness": _paint_staleness,
    "participation": _paint_participation,
}
