"""docs/robustness.md from the rows; never edited by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from tests.bench.pages.text import table, wrap
from tests.root import ROOT
from tests.trials.quarantine import settings
from tests.trials.results import rows as all_rows
from tests.trials.robustness import answer
from tests.trials.robustness.answer import LOST_MAX, Rows, find_lost
from tests.trials.robustness.cells import ATTACKS, DATA, RULES, TENTH

PAGE, TEXT = ROOT / "docs" / "robustness.md", Path(__file__).with_name("robustness.md")


def write(rows: Rows) -> None:
    """The text with each `<!-- name -->` replaced by what was measured."""
    trained = [row for row in rows if "whole" not in row]
    text = TEXT.read_text().replace("<!-- answer -->", answer.tell_answer(trained))
    for data in DATA:
        mine = [row for row in trained if row["data"] == data]
        text = text.replace(f"<!-- {data} -->", _tell(mine) if mine else "Not measured yet.")
    text = text.replace("<!-- byzfl -->", _tell_oracle())
    text = text.replace("<!-- quarantine -->", _tell_quarantine())
    text = text.replace("<!-- settings -->", settings.tell_settings(all_rows("quarantine")))
    text = text.replace("<!-- whole -->", _compare(trained, [row for row in rows if "whole" in row]))
    PAGE.write_text(text)


def _tell_oracle() -> str:
    newest = {row["rule"]: row for row in all_rows("byzfl")}
    if not newest:
        return "Not measured yet."
    lines = [[rule, row["rounds"], f"{row['worst']:.1g}", row["ties"], row["commit"]] for rule, row in newest.items()]
    return table(["rule", "rounds", "apart", "ties", "commit"], lines)


def _tell_quarantine() -> str:
    newest = {(row["attack"], row["tier"]): row for row in all_rows("quarantine") if "setting" not in row}
    if not newest:
        return "Not measured yet."
    lines = [
        [
            row["attack"] or "nobody",
            row["tier"],
            row["versions"] - 1,
            *(f"{row[f'{group}_out']} of {row[f'{group}_of']}" for group in ("hostile", "minority", "majority")),
            "" if row["precision"] is None else f"{row['precision']:.2f}",
            row["rounds_until_out"] or "",
            row["rounds_until_out_most"] or "",
            row.get("rounds_hostile") or "",
            f"{100 * row['accuracy']:.1f}" if "accuracy" in row else "",
            row["leases_after"],
            row["updates_after_lift"] if row["hostile_of"] and row["kills"] else "",
            row["kills"],
            row["replay"],
        ]
        for row in newest.values()
    ]
    head = [
        "attack",
        "where",
        "versions",
        "attackers out",
        "minority out",
        "majority out",
        "precision",
        "rounds until out",
        "most",
        "an attacker's rounds",
    ]
    return table([*head, "accuracy %", "leases after", "updates once lifted", "kills", "replay"], lines)


def _tell(rows: Rows) -> str:
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    parts = [
        f"{len(rows)} trainings, seeds {_list(row['seed'] for row in rows)}, commit {commits}.",
        "Nobody attacks:\n\n" + _tell_peace(rows),
    ]
    shares = sorted({row["share"] for row in rows} - {0.0})
    parts += [f"Accuracy in percent, {each:.0%} attack:\n\n{_tell_attacks(rows, each)}" for each in shares]
    parts.append("What is kept of the honest minority, 10% attack:\n\n" + _grid(rows, "kept_minority", TENTH, "{:.2f}"))
    fooled = [
        f"{rule} {100 * found:.0f}"
        for rule in RULES
        if (found := _mean(rows, "fooled", rule=rule, attack="backdoor", share=TENTH)) is not None
    ]
    said = "How often a picture with the trigger is taken for the target, in percent, 10% attack: "
    parts.append(wrap(f"{said}{', '.join(fooled)}."))
    return "\n\n".join(parts)


def _tell_peace(rows: Rows) -> str:
    lines = []
    for rule in RULES:
        own = [row for row in rows if row["rule"] == rule and row["share"] == 0.0]
        if not own:
            continue
        silent = fmean(len(row["silent"]) for row in own)
        of = fmean(row["silent_of"] for row in own)
        values = [f"{100 * fmean(row[name] for row in own):.1f}" for name in ("accuracy", "minority")]
        kept = [f"{fmean(row[name] for row in own):.2f}" for name in ("kept_majority", "kept_minority")]
        lines.append([rule, *values, *kept, f"{silent:.1f} of {of:.0f}"])
    header = ["rule", "accuracy %", "minority's %", "kept of the majority", "of the minority", "no longer count"]
    return table(header, lines)


def _tell_attacks(rows: Rows, share: float) -> str:
    lines = []
    for attack in ATTACKS:
        found = {rule: _mean(rows, "accuracy", rule=rule, attack=attack, share=share) for rule in RULES}
        lost = find_lost(rows, attack, share=share)
        if not lost:
            continue
        best = min(lost, key=lambda rule: lost[rule])
        cells = ["" if value is None else _mark(f"{100 * value:.1f}", rule == best) for rule, value in found.items()]
        aim = "" if share != TENTH else ", kept" if lost[best] <= LOST_MAX else ", not kept"
        lines.append([attack, *cells, f"{lost[best]:.1f}{aim}"])
    return table(["attack", *RULES, "lost by the best"], lines)


def _grid(rows: Rows, column: str, share: float, form: str) -> str:
    lines = []
    for attack in ATTACKS:
        found = [_mean(rows, column, rule=rule, attack=attack, share=share) for rule in RULES]
        if any(value is not None for value in found):
            lines.append([attack, *("" if value is None else form.format(value) for value in found)])
    return table(["attack", *RULES], lines)


def _compare(rows: Rows, whole: Rows) -> str:
    lines = []
    for row in whole:
        key = {name: row[name] for name in ("data", "rule", "attack", "share", "seed")}
        own = [each for each in rows if all(each[name] == value for name, value in key.items())]
        if own:
            gap = 100 * (row["whole"] - own[-1]["accuracy"])
            told = [f"{100 * own[-1]['accuracy']:.1f}", f"{100 * row['whole']:.1f}", f"{gap:+.1f}"]
            lines.append([row["rule"], row["attack"] or "nobody", *told])
    return (
        table(["rule", "attack", "without the log %", "with it %", "difference"], lines)
        if lines
        else "Not measured yet."
    )


def _mean(rows: Rows, column: str, **asked: object) -> float | None:
    found = [row[column] for row in rows if all(row[name] == value for name, value in asked.items())]
    known = [value for value in found if value is not None]
    return fmean(known) if known else None


def _mark(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(set(values), key=str)))
