"""The answer of docs/robustness.md, which stands before all that was measured: which rule, and what it costs whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from tests.bench.pages.text import table, wrap
from tests.trials.robustness.cells import ATTACKS, DATA, RULES, TENTH

Rows = Sequence[dict[str, Any]]
# What the best rule of each attack may lose at a tenth of attackers, in points of accuracy.
LOST_MAX = 2.0


def tell_answer(rows: Rows) -> str:
    """Two tables: the best rule against each attack, and what a rule costs that is taken before anybody knows which."""
    of = {data: [row for row in rows if row["data"] == data] for data in DATA}
    of = {data: mine for data, mine in of.items() if mine}
    if not of:
        return "Not measured yet."
    names = " / ".join(of)
    attacks = [line for attack in ("", *ATTACKS) if (line := _tell_attack(of, attack))]
    rules = [line for rule in RULES if (line := _tell_rule(of, rule))]
    head = ["attack", "best rule", "points lost", "minority kept", "mean loses", "clip alone loses"]
    costs = ["rule", "nobody attacks", "worst attack", "minority kept", "minority's accuracy", "no longer count"]
    return "\n\n".join(
        [
            wrap(f"Each cell: {names}. {_judge(of)}"),
            table(head, attacks),
            wrap(
                "Nobody knows the attack before it comes. What each rule costs where nobody attacks, in points; what "
                "its worst attack costs at a tenth; and what becomes of the honest minority where nobody attacks:"
            ),
            table(costs, rules),
        ]
    )


def find_lost(rows: Rows, attack: str, *, share: float) -> dict[str, float]:
    """Points that each rule loses against the mean without attackers, over the seeds that all of them have."""
    found = {rule: _by_seed(rows, rule, attack=attack, share=share) for rule in RULES}
    calm = _by_seed(rows, "mean", attack="", share=0.0)
    found = {rule: seeds for rule, seeds in found.items() if seeds}
    # While a seed is under way some rules have it and others have not: they are not compared by it.
    common = set(calm).intersection(*found.values())
    if not common:
        return {}
    return {
        rule: 100 * fmean(calm[seed]["accuracy"] - rows_of[seed]["accuracy"] for seed in common)
        for rule, rows_of in found.items()
    }


def _by_seed(rows: Rows, rule: str, *, attack: str, share: float) -> dict[int, dict[str, Any]]:
    return {row["seed"]: row for row in rows if (row["rule"], row["attack"], row["share"]) == (rule, attack, share)}


def _judge(of: Mapping[str, Rows]) -> str:
    """Whether the aim is kept, against how many of the attacks that were tried."""
    losses = [lost for mine in of.values() for attack in ATTACKS if (lost := find_lost(mine, attack, share=TENTH))]
    kept = sum(min(lost.values()) <= LOST_MAX for lost in losses)
    clip = sum(lost["clip"] <= LOST_MAX for lost in losses if "clip" in lost)
    tried = len(losses)
    return (
        f"The aim, at most {LOST_MAX:g} points lost by the best rule, is kept in {kept} of {tried}; by the short clip "
        f"of a private task alone in {clip} of {tried}."
    )


def _tell_attack(of: Mapping[str, Rows], attack: str) -> list[str]:
    share = TENTH if attack else 0.0
    lost = {data: find_lost(mine, attack, share=share) for data, mine in of.items()}
    if not any(lost.values()):
        return []
    best = {data: min(each, key=lambda rule: each[rule]) if each else "" for data, each in lost.items()}
    rows = {data: _by_seed(mine, best[data], attack=attack, share=share) for data, mine in of.items()}
    names = [*dict.fromkeys(best.values())]
    return [
        attack or "nobody",
        names[0] if len(names) == 1 else _join(best.values(), str),
        _join([each.get(best[data]) for data, each in lost.items()], "{:.1f}".format),
        _join([_mean(each, "kept_minority") for each in rows.values()], "{:.2f}".format),
        _join([each.get("mean") for each in lost.values()], "{:.1f}".format),
        _join([each.get("clip") for each in lost.values()], "{:.1f}".format),
    ]


def _tell_rule(of: Mapping[str, Rows], rule: str) -> list[str]:
    calm = {data: _by_seed(mine, rule, attack="", share=0.0) for data, mine in of.items()}
    if not any(calm.values()):
        return []
    lost = [find_lost(mine, "", share=0.0).get(rule) for mine in of.values()]
    worst = [_find_worst(mine, rule) for mine in of.values()]
    return [
        rule,
        _join(lost, "{:.1f}".format),
        _join(worst, lambda found: f"{found[0]:.1f} ({found[1]})"),
        _join([_mean(each, "kept_minority") for each in calm.values()], "{:.2f}".format),
        _join([_mean(each, "minority") for each in calm.values()], "{:.1%}".format),
        _join([_count_silent(each) for each in calm.values()], str),
    ]


def _count_silent(rows: Mapping[int, dict[str, Any]]) -> str:
    if not rows:
        return ""
    silent, honest = (
        fmean(len(row["silent"]) for row in rows.values()),
        fmean(row["silent_of"] for row in rows.values()),
    )
    return f"{silent:.0f} of {honest:.0f}"


def _find_worst(rows: Rows, rule: str) -> tuple[float, str] | None:
    found = [(lost[rule], attack) for attack in ATTACKS if rule in (lost := find_lost(rows, attack, share=TENTH))]
    return max(found, default=None)


def _mean(rows: Mapping[int, dict[str, Any]], column: str) -> float | None:
    known = [row[column] for row in rows.values() if row[column] is not None]
    return fmean(known) if known else None


def _join(values: Any, form: Callable[[Any], str]) -> str:
    # A minus before nothing would be read as a gain.
    return " / ".join("–" if value in (None, "") else re.sub(r"^-(0\.0+)\b", r"\1", form(value)) for value in values)
