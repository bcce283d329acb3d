"""A report as one page of HTML: it names no other address, runs no script, and is the same on a screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib import resources

import htpy as h
from markupsafe import Markup

from ops.web.page.assets_index import read_asset
from ops.web.page.charts.bars import Bar, draw_shares, name_color
from ops.web.page.charts.lines import Curve, draw_curve
from ops.web.page.charts.scales import make_table
from ops.web.page.formats import NOTHING, format_number, format_share
from ops.web.page.questions.overview import choose_metric
from ops.web.page.views.parts import draw_figure, draw_status
from ops.web.report.questions import Told
from ops.web.report.statement import describe, describe_none, list_spending, list_uncovered
from ops.web.report.suppression import SMALL, ShownSizes
from ops.web.report.verdict import Verdict

CURVES_MAX = 3
# Said to the browser too: even if something were on the page that loads or runs, it would not.
_CLOSED = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(told: Told, verdict: Verdict) -> str:
    """The whole page."""
    sections = [
        _show_lead(told, verdict),
        _show_section("What was trained", _describe_training(told), kind="half"),
        _show_section("On whom", _show_sizes(told.sizes), kind="half"),
        _show_section("How well it does", _show_curves(told), kind="wide"),
        _show_section("Privacy", _show_privacy(told), kind="wide"),
        _show_section("Incidents", _show_incidents(told), kind="half"),
        _show_section("Verification", _show_verdict(told, verdict), kind="half"),
    ]
    # Our own style alone: everything that comes from the log is text, and is escaped.
    style = Markup(read_asset("page.css").decode() + _read_style())  # noqa: S704 - no word of the log
    head = h.head[
        h.meta(charset="utf-8"),
        h.meta(name="viewport", content="width=device-width, initial-scale=1"),
        h.meta(name="color-scheme", content="light dark"),
        h.meta(name="referrer", content="no-referrer"),
        h.meta(http_equiv="Content-Security-Policy", content=_CLOSED),
        h.title[f"{told.task}: report"],
        h.style[style],
    ]
    foot = h.footer[
        h.p["Made by ", h.code["fedlog report"], f" from the log as it stood at {_format_time(told.until)} UTC."]
    ]
    return "".join(h.html(lang="en")[head, h.body(".report")[h.main[sections], foot]].iter_chunks())


def _read_style() -> str:
    return resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")


def _show_section(title: str, body: h.Node, *, kind: str) -> h.Element:
    return h.section(class_=f"card {kind}")[h.h2[title], body]


def _show_lead(told: Told, verdict: Verdict) -> h.Element:
    metric, points = _list_curves(told)[0]
    counts = told.versions
    figures = [
        draw_figure("versions", format_number(counts["versions"]), note=f"of at most {told.policy.stop.versions_max}"),
        draw_figure(
            metric,
            format_number(points[-1][1], digits=3) if points else NOTHING,
            note=f"at version {points[-1][0]}, on held-out data" if points else "not scored",
        ),
        draw_figure("devices that took part", _format_hidden(told.sizes.total), note=_describe_updates(told)),
        draw_figure("verification", h.span(f".verdict-word.{verdict.tone}")[verdict.word]),
    ]
    until = told.halted_at or told.until
    return h.section(".card.wide.plain")[
        h.p(".kind")["Report of a federated training" if told.policy.kind == "train" else "Report of a measurement"],
        h.div(".title")[h.h1[told.task], draw_status(told.status)],
        h.p(".note")[f"{_format_time(told.created_at)} to {_format_time(until)} UTC"],
        h.div(".figures")[figures],
    ]


def _describe_updates(told: Told) -> str:
    # Each device is at most once in a round, so that the size of a round says how many there are at least.
    if told.sizes.total is None:
        return "too few to say how many"
    return f"with {format_number(told.versions['updates'])} updates"


def _describe_training(told: Told) -> h.Node:
    policy, counts = told.policy, told.versions
    round_size = f"{policy.aggregation.updates_per_round} updates" if told.sizes.total is not None else "not shown"
    rows: list[tuple[str, h.Node]] = [
        ("Model", h.code[policy.model or policy.learner or "of the operator"]),
        ("Parameters", format_number(told.parameters)),
        ("Data", h.code[policy.data] if policy.data else "of each device's own"),
        *_describe_learning(told),
        (
            "Leaves a device",
            f"{policy.compression.codec} updates, clipped to norm {format_number(policy.clipping.norm)}",
        ),
        ("A round", f"{round_size}, combined by {policy.aggregation.rule.replace('_', ' ')}"),
        ("Staleness", f"{policy.staleness.rule}; refused beyond {policy.staleness.max_versions} versions"),
        ("Server", f"{policy.optimizer.rule}, learning rate {format_number(policy.optimizer.learning_rate)}"),
        ("Carries on from", told.parent or "no other task"),
        ("Newest model", h.span(".id")[counts["sha256"] or NOTHING]),
        ("Policy", h.span(".id")[told.policy_sha256]),
    ]
    return [
        h.dl(".facts")[([h.dt[name], h.dd[text]] for name, text in rows)],
        h.p(".note")["The last two are SHA-256: whoever has the model or the policy can tell that it is this one."],
    ]


def _describe_learning(told: Told) -> list[tuple[str, h.Node]]:
    if (measure := told.policy.measure) is not None:
        return [("Asked", f"{measure.release} of {', '.join(sorted(measure.statistics))}")]
    training = told.policy.training
    work = (
        f"{training.steps} steps"
        if training.steps
        else "one epoch"
        if training.epochs == 1
        else f"{training.epochs} epochs"
    )
    return [("On a device", f"{training.algorithm}, {work}, learning rate {format_number(training.learning_rate)}")]


def _format_hidden(size: int | None) -> str:
    return "not shown" if size is None else format_number(size)


def _show_sizes(sizes: ShownSizes) -> h.Node:
    bars = [
        Bar(name=name or "no cohort", value=size, note=_format_size(size, sizes.total), tone=name_color(number))
        for number, (name, size) in enumerate(sizes.groups)
    ]
    if sizes.others:
        name = "other cohorts together" if sizes.groups else "all cohorts together"
        bars.append(Bar(name=name, value=sizes.others, note=_format_size(sizes.others, sizes.total), tone="quiet"))
    if sizes.total is None:
        shown: h.Node = h.p(".empty")["How many devices took part is not shown: it would say how large a cohort is."]
    else:
        shown = draw_shares(bars, nothing="No device has taken part.")
    return [shown, h.p(".note")[_explain_sizes(sizes)]]


def _format_size(size: int, total: int | None) -> str:
    return f"{format_number(size)} · {format_share(size, total or 0)}"


def _explain_sizes(sizes: ShownSizes) -> str:
    text = "Devices with at least one update in a version, by the cohort that each named last. "
    if sizes.line is not None:
        text += f"Cohorts of fewer than {sizes.line} devices stand together. "
    return text + (
        f"A cohort of fewer than {SMALL} devices is never shown, nor what would let its size be computed from the rest."
    )


def _list_curves(told: Told) -> list[tuple[str, Sequence[tuple[int, float]]]]:
    """The headline metric first; always one, which may have no points."""
    headline = choose_metric(told.policy, {name: points[-1][1] for name, points in told.scores.items()})
    # The loss is what is trained, whatever else is looked at.
    names = [name for name in dict.fromkeys([headline or "", "loss", *told.scores]) if name in told.scores]
    return [(name, told.scores[name]) for name in names[:CURVES_MAX]] or [("score", [])]


def _show_curves(told: Told) -> h.Node:
    return [
        h.figure[
            h.figcaption[name.replace("_", " ")], draw_curve(Curve(name=name, points=points, color=number % CURVES_MAX))
        ]
        for number, (name, points) in enumerate(_list_curves(told))
    ]


def _show_privacy(told: Told) -> h.Node:
    privacy = told.policy.privacy
    if privacy is None:
        return h.p[describe_none(told.policy)]
    rows, deltas = [], []
    for name, rho, epsilons in list_spending(privacy, told.spent):
        deltas = [f"ε at δ = {delta:g}" for delta, _ in epsilons]
        rows.append([name, format_number(rho), *(format_number(value) for _, value in epsilons)])
    return [
        make_table(["", "ρ (zCDP)", *deltas], rows, caption="what privacy cost"),
        h.dl(".statement")[
            ([h.dt[title], h.dd[text]] for title, text in describe(told.policy, privacy, spent=told.spent))
        ],
        h.h3["Not covered"],
        h.ul(".list")[(h.li[text] for text in list_uncovered(is_enrolled=told.policy.is_enrolled))],
        h.p(".note")["In the parts that NIST SP 800-226 asks to be told."],
    ]


def _show_incidents(told: Told) -> h.Node:
    rows = [[one.what, one.reason or NOTHING, format_number(one.count)] for one in told.incidents]
    workers = told.workers
    restarts = workers["claims"] - workers["actors"]
    defects = "for operators only" if workers["defects"] is None else format_number(workers["defects"])
    servers = [
        ("Takeovers of a journal by a new process", format_number(restarts)),
        ("Zombies: batches of a replaced process, skipped", format_number(workers["zombies"] or 0)),
        ("Records of strangers, passed over", format_number(workers["strangers"] or 0)),
        ("Defects: inputs on which our own code failed", defects if workers["claims"] else "0"),
    ]
    nothing = h.p(".empty")["None is in the log."]
    return [
        make_table(["what", "why", "times"], rows, caption="incidents") if rows else nothing,
        h.h3["The servers of this task and those that share its partition"],
        h.dl(".facts.counts")[([h.dt[name], h.dd[value]] for name, value in servers)],
    ]


def _show_verdict(told: Told, verdict: Verdict) -> h.Node:
    commands = [
        "fedlog verify",
        f"fedlog replay --full --task {told.task}",
        f"fedlog report {told.task} --verify --html FILE",
    ]
    return [
        h.p(f".verdict.{verdict.tone}")[verdict.word[:1].upper() + verdict.word[1:] + "."],
        h.dl(".facts")[([h.dt[name], h.dd[value]] for name, value in verdict.figures)] if verdict.figures else None,
        h.p[verdict.note] if verdict.note else None,
        h.h3["Check it yourself"],
        h.pre["\n".join(commands)],
        h.p(".note")[
            "A participant checks what became of an update with a receipt, without the log: ",
            h.code["fedlog receipt"],
        ],
    ]


def _format_time(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M")
