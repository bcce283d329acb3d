"""What a person sees of a running task: a live panel on a terminal or in a notebook, a line a version elsewhere."""

from __future__ import annotations

import contextlib
import html
import io
import sys
import time
from collections.abc import Iterator
from typing import Any

from ops.console import number, sparkline
from ops.history.task_view import TaskView

CELL_EVERY_S = 0.5


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
        line = f"[{time.monotonic() - self._began_s:5.1f} s] {text}"
        if self._live is not None:
            # Text beside the panel must go through it, or the two overwrite each other.
            self._live.console.print(line, highlight=False, markup=False)
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
            self._live.update(_panel(view, time.monotonic() - self._began_s))
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

    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(_panel(view, seconds))
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


def _panel(view: TaskView, seconds: float) -> Any:
    from rich.panel import Panel
    from rich.table import Table

    rows = Table.grid(padding=(0, 2))
    goal = view.created.policy.stop.versions_max if view.created else 0
    privacy = view.created.policy.privacy if view.created else None
    share = f"{_bar(view.version or 0, goal or 1)} {describe_progress(view)}"
    rows.add_row("version", f"{view.version if view.version is not None else '-'} of {goal}  {share}")
    rows.add_row(_name_metric(view), f"{number(view.metric, 3) or '-'}  {sparkline(view.curve())}")
    rows.add_row("buffer", f"{_bar(view.buffer_fill, view.buffer_size or 1)} {view.buffer_fill}/{view.buffer_size}")
    rows.add_row("staleness", f"mean {number(view.staleness_mean, 2) or '-'}, most {view.staleness_max}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in view.refused.most_common(3))
    refused = f"{view.refused.total()} refused" + (f" ({reasons})" if reasons else "")
    rows.add_row("updates", f"{view.admitted} admitted, {refused}")
    if view.created is not None:
        rows.add_row("tier", view.created.policy.tier_label)
    if privacy is not None:
        # The budget is spent in rho, which adds up over rounds; epsilon does not.
        rows.add_row("privacy", f"{_bar(view.rho, privacy.rho_max)} rho {view.rho:.2f} of {privacy.rho_max:g}")
        rows.add_row("epsilon", f"{number(view.epsilon, 3) or '-'} at delta {privacy.delta:g}")
    rows.add_row("devices at work", f"{len(view.leases)}{_describe_start(view)}")
    return Panel(rows, title=f"fedlog · {view.task} · {seconds:.0f} s", title_align="left", expand=False)


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
