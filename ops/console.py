"""What a person at the terminal sees: tables, plain lines or JSON on stdout, words about the work on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TextIO

PROGRESS_INTERVAL_S = 5.0
CURVE_LETTERS_MAX = 40
# Below this a line holds too few words to be read.
ROOM_MIN = 40
_JSON = json.JSONEncoder(default=str, ensure_ascii=False)


def say(text: str) -> None:
    """One line of result."""
    # Results go to stdout alone and at once, so that a pipe gets each line when it is known.
    print(_escape(text), flush=True)


def note(text: str) -> None:
    """One line about the work itself; stays out of what a machine reads."""
    print(wrap(_escape(text), sys.stderr), file=sys.stderr, flush=True)


def tell(text: str, *, indent: str = "") -> None:
    """A result in words, which a person reads and no machine; a long one goes on behind `indent`."""
    say(wrap(text, sys.stdout, indent=indent))


def find_columns(stream: TextIO) -> int | None:
    """How many letters a line of the terminal has; None where the stream is none."""
    # Of this stream: the other one may be a pipe, or another terminal.
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def wrap(text: str, stream: TextIO, *, indent: str = "") -> str:
    """The text with its lines ended between words where `stream` is a terminal; it goes on behind `indent`.

    Without one, what begins with a space is a command or a table, which stays as it is.
    """
    if (room := find_columns(stream)) is None or room < ROOM_MIN:
        return text
    # A word that is too long is a path or an address, and cut in two nobody could copy it.
    fold = textwrap.TextWrapper(room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    lines = (line if not line or (not indent and line[0].isspace()) else fold.fill(line) for line in text.split("\n"))
    return "\n".join(lines)


def say_json(*values: Any) -> None:
    """One JSON object on one line, or several that are known together."""
    for value in values:
        print(_escape(_JSON.encode(value)))
    # Once for all of them: whoever reads a list of thousands through a pipe is not woken by each line.
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table for people on a terminal; columns of plain text elsewhere."""
    # Cells are text from here on, so that the widths are those of what is printed.
    texts = [["" if cell is None else _escape(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, texts, title=title)
        return
    # Plain columns, so that `grep`, `awk` and a test read the same text that a person sees.
    widths = [max(len(row[i]) for row in [list(columns), *texts]) for i in range(len(columns))]
    for row in [list(columns), *texts]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> None:
    # rich takes a while to import, and a program that reads our output never needs it.
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    Console().print(shown)


def _escape(text: str) -> str:
    """The text with a name for whatever else than letters would reach the terminal; within JSON it stays JSON."""
    # Much of what is printed was written by whoever may write to the log, and a terminal obeys control characters.
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else json.dumps(letter)[1:-1] for letter in text)


def number(value: float | None, digits: int = 4) -> str:
    """A float for people; nothing where there is none."""
    return "" if value is None else f"{value:.{digits}g}"


def sparkline(values: Sequence[float]) -> str:
    """Values as a small curve, lowest to highest; of very many the means of neighbours, so that it fits a line."""
    bars = "▁▂▃▄▅▆▇█"
    if not values:
        return ""
    if len(values) > CURVE_LETTERS_MAX:
        cuts = [len(values) * part // CURVE_LETTERS_MAX for part in range(CURVE_LETTERS_MAX + 1)]
        values = [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(cuts)]
    low, high = min(values), max(values)
    return "".join(bars[round((value - low) / ((high - low) or 1) * (len(bars) - 1))] for value in values)


class Progress:
    """Reports counts of a long run: every few seconds on stderr while they change, and once on stdout at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._counts: Mapping[str, object] = {}
        self._reported: Mapping[str, object] = {}
        self._reported_s = time.monotonic()

    def update(self, counts: Mapping[str, object]) -> None:
        """Take the newest counts, and report them when the last report is old enough."""
        self._counts = counts
        # A run that waits for devices would otherwise repeat the same line for hours.
        if counts != self._reported and time.monotonic() - self._reported_s > PROGRESS_INTERVAL_S:
            self._reported, self._reported_s = counts, time.monotonic()
            note(f"{self._title}: {_list_counts(counts)}")

    def finish(self, *, as_json: bool) -> None:
        """Print the last counts; nothing when there were none."""
        if not self._counts:
            return
        if as_json:
            say_json(self._counts)
        else:
            say(f"{self._title}: {_list_counts(self._counts)}")


def _list_counts(counts: Mapping[str, object]) -> str:
    # How many devices there are stands in the title already.
    changing = {name: count for name, count in counts.items() if count and name != "devices"}
    return ", ".join(f"{name} {count}" for name, count in changing.items()) or "nothing yet"
