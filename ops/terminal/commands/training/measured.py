"""How the commands `measure` and `task show` write what devices have answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.console import number

if TYPE_CHECKING:
    from ops.operator.results import Result

# A histogram fits on a line; what is longer is for `fedlog model export`.
ELEMENTS_SHOWN_MAX = 32


def describe_scores(result: Result) -> str:
    """The metrics of a federated evaluation on one line; of another question which statistics there are."""
    told = [
        f"{metric} {number(value)} {over.replace('_', ' ')}"
        for metric, scores in result.scores.items()
        for over, value in scores.items()
    ]
    return f"{', '.join(told) or ', '.join(result.statistics)}; {result.members} devices"


def format_result(result: Result) -> list[tuple[str, object]]:
    """The statistics of a release, one line each."""
    of = f" of {result.of} version {result.of_version}" if result.of else ""
    rows: list[tuple[str, object]] = [
        (f"version {result.version}", f"{result.release} of {result.members} devices{of}")
    ]
    for name, array in result.statistics.items():
        values = [number(float(value), 7) for value in array.reshape(-1)[:ELEMENTS_SHOWN_MAX]]
        rows.append((name, _join(values, shape=array.shape)))
    return rows


def _join(values: list[str], *, shape: Any) -> str:
    if shape == ():
        return values[0]
    text = ", ".join(values)
    return f"[{text}]" if len(values) < ELEMENTS_SHOWN_MAX else f"[{text}, ...] of shape {list(shape)}"
