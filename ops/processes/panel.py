"""What a person sees of a running task: a live panel on a terminal or in a notebook, a line a version elsewhere."""

from __future__ import annotations

import contextlib
import html
import io
import sys
import time
from collections.abc import Iterator
from typing import Any

from ops.console import number, sparkline, wrap
from ops.history.task_view import TaskView

CELL_EVERY_S = 0.5
PANEL_COLUMNS = 80
LABEL_COLUMNS = len("devices at work")
NUMBER_LETTERS = len("0.0123")
PANEL_EDGES = 6  # two borders, a space beside each, and two spaces between the columns


class View:
    """Shows progress on `stream`: a panel when it is a terminal, else plain lines."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._began_s = time.monotonic()
        self._live: Any = None
        self._cell: Any = None
        self._shown_version: int | None = None
        self._shown_s = 0.0

    def say(self, text: str) -> None:
        """One line that stays."""
        stamp = f"[{time.monotonic() - self._began_s:5.1f} s] "
        line = wrap(stamp + text, self._stream, indent=" " * len(stamp))
        if self._live is not None:
            # Text beside the panel must go through it, or the two overwrite each other.
            self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """The panel, for as long as the block runs; nothing special where there is no terminal."""
        # A panel redraws itself with control characters, which would fill a file or a pipe.
        if not self._stream.isatty():
            self._cell = _open_cell()
            yield
            return
        # Only a person at a terminal needs rich, and it is slow to import.
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=self._stream), refresh_per_second=4) as self._live:
            yield
        self._live = None

    def show(self, view: TaskView) -> None:
        """The newest state of the task."""
        if self._live is not None:
            columns = self._live.console.width
            self._live.update(_panel(view, time.monotonic() - self._began_s, columns=columns))
            return
        if self._cell is not None:
            # The whole panel travels to the browser each time.
            if view.is_over or time.monotonic() - self._shown_s > CELL_EVERY_S:
                self._shown_s = time.monotonic()
                self._cell.update(_draw_cell(view, time.monotonic() - self._began_s), raw=True)
            return
        # Outside a terminal one line a version is enough, and one now and then shows that it is alive.
        is_new, is_late = view.version != self._shown_version, time.monotonic() - self._shown_s > 10
        if view.version is None or not (is_new or is_late):
            return
        self._shown_version, self._shown_s = view.version, time.monotonic()
        self.say(_line(view))


def _open_cell() -> Any:
    """A place in the notebook's cell whose content can be replaced; None outside of a notebook."""
    # Whoever runs in a notebook has this module already, and nobody else needs it.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if ipython is None or not hasattr(shell, "kernel"):
        return None
    return ipython.display.display({"text/plain": ""}, raw=True, display_id=True)


def _draw_cell(view: TaskView, seconds: float) -> dict[str, str]:
    """The panel as text, and as HTML that keeps its columns."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=PANEL_COLUMNS, color_system=None, force_terminal=False, force_jupyter=False
    )
    with console.capture() as captured:
        console.print(_panel(view, seconds, columns=PANEL_COLUMNS))
    text = captured.get()
    style = "line-height:1.2;font-family:monospace;background:none"
    return {"text/plain": text, "text/html": f'<pre style="{style}">{html.escape(text)}</pre>'}


def _line(view: TaskView) -> str:
    goal = view.created.policy.stop.versions_max if view.created else 0
    return (
        f"version {view.version} of {goal} ({describe_progress(view)})"
        f"  {_name_metric(view)} {number(view.metric, 3) or '-'}"
        f"  buffer {view.buffer_fill}/{view.buffer_size}  staleness {number(view.staleness_mean, 2) or '-'}"
        f"  admitted {view.admitted}  refused {sum(view.refused.values())}  epsilon {number(view.epsilon, 3) or '-'}"
        f"  devices at work {len(view.leases)}"
    )


def _panel(view: TaskView, seconds: float, *, columns: int) -> Any:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    # One width from the first picture to the last, or its right side would jump at every change.
    width = min(columns, PANEL_COLUMNS)
    rows = Table.grid(padding=(0, 2))
    rows.add_column(min_width=LABEL_COLUMNS, no_wrap=True)
    for label, told in _list_rows(view, room=width - LABEL_COLUMNS - PANEL_EDGES):
        # No markup: a metric may have brackets in its name.
        rows.add_row(Text(label), Text(told))
    title = Text(f"fedlog · {view.task} · {seconds:.0f} s")
    return Panel(rows, title=title, title_align="left", width=width)


def _list_rows(view: TaskView, *, room: int) -> Iterator[tuple[str, str]]:
    """What the panel says, a line each, of which the second part has `room` letters."""
    goal = view.created.policy.stop.versions_max if view.created else 0
    privacy = view.created.policy.privacy if view.created else None
    share = f"{_bar(view.version or 0, goal or 1)} {describe_progress(view)}"
    # Numbers have the room of their longest, or what stands behind them would jump with each digit.
    version = "-" if view.version is None else str(view.version)
    yield "version", f"{version:>{len(str(goal))}} of {goal}  {share}"
    yield _name_metric(view), f"{number(view.metric, 3) or '-':<{NUMBER_LETTERS}}  {sparkline(view.curve())}"
    yield "buffer", f"{_bar(view.buffer_fill, view.buffer_size or 1)} {view.buffer_fill}/{view.buffer_size}"
    yield "staleness", f"mean {number(view.staleness_mean, 2) or '-'}, most {view.staleness_max}"
    yield "updates", _describe_updates(view, room=room)
    if view.created is not None:
        yield "tier", view.created.policy.tier_label
    if privacy is not None:
        # The budget is spent in rho, which adds up over rounds; epsilon does not.
        yield "privacy", f"{_bar(view.rho, privacy.rho_max)} rho {view.rho:.2f} of {privacy.rho_max:g}"
        yield "epsilon", f"{number(view.epsilon, 3) or '-'} at delta {privacy.delta:g}"
    yield "devices at work", f"{len(view.leases)}{_describe_start(view)}"


def _describe_updates(view: TaskView, *, room: int) -> str:
    """Admitted and refused, and for which reasons, of which the rarer ones make way: no line is added by them."""
    counts = f"{view.admitted} admitted, {view.refused.total()} refused"
    reasons = [f"{count} {reason}" for reason, count in view.refused.most_common(3)]
    texts = (f"{counts} ({', '.join(reasons[:shown])})" for shown in range(len(reasons), 0, -1))
    return next((text for text in texts if len(text) <= room), counts)


def _describe_start(view: TaskView) -> str:
    """What the first work waits for, which may take longer than all the training; nothing later on."""
    if view.leases_granted or view.is_over:
        return ""
    return "  (the devices are starting)" if view.published else "  (the workers are starting)"


def describe_progress(view: TaskView) -> str:
    """How far a task is: percent of its versions, and the time that the others take if they come as fast as these."""
    if view.created is None or view.version is None:
        return "0 %"
    goal = view.created.policy.stop.versions_max
    # Versions, not seconds: a task ends by its number of versions in any case.
    share = f"{100 * view.version / goal:.0f} %"
    # From the first version on: what processes need to start says nothing about a round.
    taken_ms = view.published_ms[view.version] - view.published_ms[min(view.published)]
    if view.is_over or not taken_ms or not view.version:
        return share
    return f"{share}, {_format_seconds(taken_ms / view.version * (goal - view.version) / 1000)} left"


# Two digits are as much as an estimate is worth.
def _format_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _name_metric(view: TaskView) -> str:
    return view.metric_name or "score"


def _bar(value: float, whole: float, *, width: int = 24) -> str:
    filled = round(min(value / whole, 1.0) * width)
    return "█" * filled + "░" * (width - filled)
