"""Which labels each device has, as text for a terminal, and as a figure where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client_agent.learning.data import DataError
from fedlog.data.by_size import Column, Indices
from fedlog.data.extras import import_optional

SHADES = " ░▒▓█"
CLASSES_MAX = 40
DEVICES_MAX = 60
_CELL = 3


def count_labels(labels: Column, parts: Sequence[Indices]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The classes, and how many examples of each every device has, as (devices, classes). Raises DataError."""
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) > CLASSES_MAX:
        raise DataError(f"{len(classes)} different labels make no picture; at most {CLASSES_MAX}")
    # A device without examples has a row as well: that it has none is what a person wants to see.
    return classes, np.stack([np.bincount(codes[part], minlength=len(classes)) for part in parts])


def format_labels(labels: Column, parts: Sequence[Indices]) -> str:
    """A line a device: the darker a cell, the larger that class's share of the device. Raises DataError."""
    classes, counts = count_labels(labels, parts)
    width = len(str(len(parts) - 1))
    head = " " * (width + 8) + "".join(f"{str(one)[:_CELL]:>{_CELL}}" for one in classes) + "  examples"
    lines = [f"device {device:>{width}} {_shade(own)}  {own.sum()}" for device, own in enumerate(counts[:DEVICES_MAX])]
    # A screen has so many lines, and the first devices of a fleet are like the others.
    more = [f"… and {len(parts) - DEVICES_MAX} more devices"] if len(parts) > DEVICES_MAX else []
    return "\n".join([head, *lines, *more])


def draw_labels(labels: Column, parts: Sequence[Indices], *, path: Path | str | None = None) -> Any:
    """A bar a device, a colour a class, none twice, as matplotlib's Figure, kept in `path`. Raises DataError."""
    figures = import_optional("matplotlib.figure", package="matplotlib", wanted_for="draw_labels")
    maps = import_optional("matplotlib", package="matplotlib", wanted_for="draw_labels").colormaps
    classes, counts = count_labels(labels, parts)
    colours = maps["tab10"].colors if len(classes) <= 10 else maps["turbo"](np.linspace(0, 1, len(classes)))
    rows = max(len(parts), len(classes) + 3)
    # A Figure of its own, not pyplot's: it needs no screen, and no one closes it.
    figure = figures.Figure(figsize=(8, max(2.0, 0.2 * rows)), layout="constrained")
    axes = figure.subplots()
    before = np.zeros(len(parts), np.int64)
    for place, one in enumerate(classes):
        axes.barh(np.arange(len(parts)), counts[:, place], left=before, label=str(one), color=colours[place])
        before = before + counts[:, place]
    axes.set(xlabel="examples", ylabel="device")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    # Beside the bars: there is no place among them that some device does not fill.
    figure.legend(title="label", fontsize="small", loc="outside right upper")
    if path is not None:
        figure.savefig(path)
    return figure


def _shade(own: npt.NDArray[np.int64]) -> str:
    total = max(1, int(own.sum()))
    # Rounded up, so that a single example of a class is seen.
    steps = np.ceil(own / total * (len(SHADES) - 1)).astype(int)
    return "".join(f" {SHADES[step] * (_CELL - 1)}" for step in steps)
