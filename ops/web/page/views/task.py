"""One task: its buffer as it fills, how it got there, who took part, what was refused, what is left to spend."""

from __future__ import annotations

from collections.abc import Sequence

import htpy as h

from ops.web.page.charts.bars import Bar, draw_histogram, draw_shares, name_color
from ops.web.page.charts.buffer import Cell, draw_buffer, find_step
from ops.web.page.charts.gauge import draw_gauge
from ops.web.page.charts.lines import Curve, draw_curve
from ops.web.page.charts.scales import make_table
from ops.web.page.charts.timeline import draw_timeline
from ops.web.page.formats import format_bytes, format_clock, format_number, format_seconds, format_share
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment
from ops.web.page.questions import apart, courses, drift, releasing, running
from ops.web.page.questions.overview import TaskLine, ask_for_tasks, list_tasks
from ops.web.page.questions.position import ask_for_stops
from ops.web.page.views.parts import draw_figure, draw_status, draw_time, make_trips, name_cohort
from ops.web.page.views.watching.apart import show_apart
from ops.web.page.views.watching.drift import show_drift, tell_standing

LOW = 0.15


def show_task(moment: Moment, task: str) -> Page | None:
    """Everything of one task; None where there is none of that name."""
    # Together, because the way there and back takes longer than most answers.
    moment.ask_all(
        *ask_for_tasks(moment, task),
        *courses.ask_for_courses(task),
        *running.ask_for_standing(task),
        *releasing.ask_for_steps(task),
        *apart.ask_for_apart(task),
        *drift.ask_for_drift(task),
        *ask_for_stops(task),
    )
    moment.ask_all(*courses.ask_for_course(moment, task), *running.ask_for_rounds(moment, task))
    line = next(iter(list_tasks(moment, task)), None)
    if line is None:
        return None
    course = courses.trace_course(moment, task)
    filling = running.find_round(moment, task)
    sections = [
        _show_lead(moment, line),
        _show_buffer(moment, line, filling=filling),
        *([_show_budget(moment, line)] if line.budget else []),
        *_show_rollout(moment, line),
        *show_drift(moment, line),
        *_show_scores(moment, line, course=course),
        _show_staleness(moment, line),
        _show_durations(moment, line, course=course),
        _show_cohorts(moment, line),
        _show_losses(moment, line),
        *show_apart(moment, line),
        _show_timeline(moment, line, filling=filling),
        _show_versions(moment, line),
    ]
    return Page(title=task, area="/tasks", sections=sections, task=task)


def _show_lead(moment: Moment, line: TaskLine) -> Section:
    score = line.scores[-1] if line.scores else None
    told = [f"at version {score[0]}" if score else "not scored yet"]
    # The newest first: what it waits for says more than that an old one was scored.
    told += [f"version {version}: {standing}" for version, standing in [*_list_open_scores(moment, line).items()][:1]]
    figures = [
        draw_figure("version", format_number(line.version), note=f"of {format_number(line.versions_max)}"),
        draw_figure(
            line.metric or "score",
            format_number(score[1], digits=3) if score else "–",
            note="; ".join(told),
        ),
        draw_figure("devices at work", format_number(line.at_work), note=f"up to {line.policy.selection.concurrency}"),
        draw_figure("last event", draw_time(line.last_ms), note=line.last_event),
    ]
    return Section(
        "lead",
        "",
        [
            h.div(".title")[
                h.h1[line.task],
                draw_status(line.status),
                h.span(".note", title=line.policy.tier_label)[f"tier {line.policy.tier}"],
                h.span(".note")["from ", h.a(href=moment.link_task(line.parent))[line.parent]] if line.parent else None,
                _draw_actions(moment, line) if moment.may_change and not moment.at else None,
            ],
            h.div(".figures")[figures],
        ],
        "wide plain",
    )


def _draw_actions(moment: Moment, line: TaskLine) -> h.Element:
    """Links to the pages that ask back; nothing here changes anything."""
    may = (
        [] if line.is_over or line.status == "closing" else ["resume" if line.status == "paused" else "pause", "close"]
    )
    # What would only be refused is not offered.
    may += ["fork"] if line.version is not None and moment.may_fork else []
    return h.span(".actions")[(h.a(".button", href=f"/tasks/{line.task}/{name}")[name.capitalize()] for name in may)]


def _show_buffer(moment: Moment, line: TaskLine, *, filling: running.Round | None) -> Section:
    if filling is None:
        return Section("buffer", "Buffer", h.p(".empty")["No round is open yet."], "wide")
    cells = [
        Cell(
            device=row["device"],
            cohort=row["cohort"] or "",
            staleness=row["staleness"],
            weight=row["weight"] / line.policy.weight_one,
            zeroed=row["zeroed"],
            link=moment.link_record(row["at_topic"], partition=row["at_partition"], offset=row["at_offset"]),
        )
        for row in filling.members
    ]
    # A round that ended by time had room left, and nothing will come into it.
    size = line.size if filling.is_filling else max(len(cells), 1)
    state = "filling" if filling.is_filling else filling.steps[-1][0]
    aside = h.span(".note")[
        f"round {format_number(filling.number)}, {state}: ", h.b[f"{len(cells)} of {size}"], " admitted"
    ]
    staleness_max = line.policy.staleness.max_versions
    kind = "two-thirds" if line.budget else "wide"
    drawn = draw_buffer(cells, size=size, staleness_max=staleness_max)
    return Section("buffer", "Buffer", [drawn, _suggest_devices(moment, line)], kind, aside)


def _suggest_devices(moment: Moment, line: TaskLine) -> h.Node:
    # A fork waits for devices of its own, and whoever has made it from the page wonders why nothing happens.
    if line.is_over or line.at_work or running.count_staleness(moment, line.task):
        return None
    command = h.code[f"fedlog fleet --task {line.task}"]
    return h.p(".note")["No device has taken part yet. Simulated ones come with ", command, "."]


def _show_budget(moment: Moment, line: TaskLine) -> Section:
    budget = line.budget
    assert budget is not None
    # A task that is over spends no more.
    end = None if line.is_over else courses.forecast_end(moment, line.task, budget=budget, version=line.version)
    told = [
        ("spent", f"ρ {budget.rho:.4g} of {budget.rho_max:g}"),
        (
            "that is",
            f"ε {budget.epsilon:.4g} at δ {budget.delta:g}" if budget.epsilon is not None else "not charged yet",
        ),
    ]
    if end is not None:
        text = (
            f"about version {end}" if end < line.versions_max else f"not before version {line.versions_max}, the last"
        )
        told.append(("ends at this pace", text))
    label = f"privacy: {format_share(budget.left, 1)} left"
    return Section(
        "budget",
        "Privacy",
        [
            draw_gauge(budget.left, label=label, is_low=budget.left < LOW),
            h.dl(".facts")[([h.dt[name], h.dd[text]] for name, text in told)],
        ],
        "third",
        h.a(href=moment.link("/privacy", {"task": line.task}))["ledger"],
    )


def _show_rollout(moment: Moment, line: TaskLine) -> list[Section]:
    """What is promoted, what is tried, and what was taken back and why; nothing where nobody rolls it out."""
    found, running_now = releasing.find_standing(moment, line.task), releasing.list_running(moment, line.task)
    if found is None and not running_now:
        return []
    found = found or releasing.Standing([])
    tried, back = found.candidate, found.last_rollback
    share = f"{format_share(tried['share'], 1)} of the devices" if tried and tried["share"] else "not given to anybody"
    told = [
        ("promoted", "nothing" if found.promoted is None else f"version {found.promoted}"),
        ("candidate", "none" if tried is None else f"version {tried['version']}, {share}"),
        ("last rollback", "none" if back is None else f"version {back['version']}, {releasing.tell_reason(back)}"),
        ("in production", releasing.tell_running(running_now)),
        *_list_waits(moment, line),
    ]
    facts = h.dl(".facts")[([h.dt[name], h.dd[text]] for name, text in told)]
    aside = h.span(".note")["in production: as the devices say themselves"]
    return [Section("rollout", "Rollout", facts, "wide", aside)]


def _list_waits(moment: Moment, line: TaskLine) -> list[tuple[str, str]]:
    """What has moved beyond the gates of a rollout that look at drift, as far as it has heard."""
    gates = [gate for gate in (line.policy.rollout.gates if line.policy.rollout else ()) if gate.drift_of]
    asked = {gate.drift_of for gate in gates if gate.drift_of}
    standing = drift.list_heard(moment, asked, since_ms=line.created_ms)
    held = [row for row in standing if any(drift.is_beyond(gate, row) for gate in gates)]
    return [("waits for", tell_standing(held))] if held else []


def _show_scores(moment: Moment, line: TaskLine, *, course: courses.Course) -> list[Section]:
    """The headline metric, and the loss beside it; a metric more would push the rest off the screen."""
    names = [name for name in (line.metric, "loss") if name is not None and name in course.scores]
    if line.policy.measure is not None and not names:
        return []  # an answer is scored by nobody
    # A task without scores keeps the place of its curve, so that nothing jumps when one comes.
    names = list(dict.fromkeys(names)) or [line.metric or "score"]
    kind = "half" if len(names) > 1 else "wide"
    return [
        Section(
            f"score-{number}",
            name.replace("_", " ").capitalize(),
            draw_curve(
                Curve(
                    name=name,
                    points=course.scores.get(name, []),
                    links=[moment.link_version(line.task, version) for version, _ in course.scores.get(name, [])],
                    color=number,
                )
            ),
            kind,
        )
        for number, name in enumerate(names)
    ]


def _show_staleness(moment: Moment, line: TaskLine) -> Section:
    counts = running.count_staleness(moment, line.task)
    most = line.policy.staleness.max_versions
    bars = [Bar(name=str(staleness), value=count, tone=f"t{find_step(staleness, most)}") for staleness, count in counts]
    total = sum(count for _, count in counts)
    mean = sum(staleness * count for staleness, count in counts) / total if total else None
    aside = h.span(".note")[f"mean {format_number(mean, digits=3)} versions"] if total else None
    return Section("staleness", "Staleness", draw_histogram(bars, name="updates", name_x="staleness"), "half", aside)


def _show_durations(moment: Moment, line: TaskLine, *, course: courses.Course) -> Section:
    links = [moment.link_version(line.task, version) for version, _ in course.durations]
    curve = Curve(name="seconds", points=course.durations, links=links, color=2, floor=0, unit=" s", may_be_log=True)
    last = format_seconds(course.durations[-1][1]) if course.durations else "–"
    return Section("durations", "Round duration", draw_curve(curve), "half", h.span(".note")[f"the last {last}"])


def _show_cohorts(moment: Moment, line: TaskLine) -> Section:
    cohorts = running.list_cohorts(moment, line.task)
    total = sum(row["admitted"] for row in cohorts)
    shares = draw_shares(
        [
            Bar(
                name=row["cohort"] or "no cohort",
                value=row["admitted"],
                note=f"{format_number(row['admitted'])} · {format_share(row['admitted'], total)}",
                tone=name_color(number),
                link=moment.link("/devices", {"task": line.task, "cohort": row["cohort"]}),
            )
            for number, row in enumerate(cohorts)
        ],
        nothing="No device has taken part yet.",
    )
    aside = h.span(".note")["admitted updates"]
    return Section("cohorts", "Participation by cohort", [shares, _draw_newest_scores(moment, line)], "half", aside)


def _draw_newest_scores(moment: Moment, line: TaskLine) -> h.Node:
    """How the newest version that anybody has scored does, by cohort; a score that is not final says what it awaits."""
    rows = courses.list_standings(moment, line.task)
    newest = [row for row in rows if row["version"] == rows[0]["version"]]
    if not any(row["cohort"] or row["status"] != "final" for row in newest):
        return None
    metrics = sorted({name for row in newest for name in row["metrics"]})
    cells: list[Sequence[h.Node]] = [
        (
            name_cohort(row["cohort"]) if row["cohort"] else h.em["all"],
            *(format_number(row["metrics"].get(name), digits=4) for name in metrics),
            row["standing"],
        )
        for row in newest
    ]
    return [h.h3[f"Scores of version {newest[0]['version']}"], make_table(["cohort", *metrics, "score"], cells)]


def _show_losses(moment: Moment, line: TaskLine) -> Section:
    losses = running.list_losses(moment, line.task)
    bars = [
        Bar(
            name=" · ".join(filter(None, (loss.how, loss.reason.replace("_", " ")))),
            value=loss.count,
            tone="low" if loss.how == "refused" else "quiet",
        )
        for loss in losses[:12]
    ]
    return Section(
        "losses",
        "Refused and lost, by reason",
        draw_shares(bars, nothing="Nothing was refused, and nothing was lost."),
        "half",
        h.a(href=moment.link("/events", {"task": line.task, "kind": "UpdateRefused"}))["refusals"],
    )


def _show_timeline(moment: Moment, line: TaskLine, *, filling: running.Round | None) -> Section:
    """The newest round in which something has happened: an empty one shows nothing of how a round goes."""
    shown = filling
    # The next round opens with the proposal of the last, and is empty for a while.
    if shown is not None and not shown.members and shown.number > 0:
        shown = running.find_round(moment, line.task, number=shown.number - 1) or shown
    if shown is None:
        return Section("timeline", "From check-in to release", h.p(".empty")["No round is open yet."], "wide")
    trips = make_trips(moment, shown.members, staleness_max=line.policy.staleness.max_versions)
    count = len(shown.members)
    more = f", the last {len(trips)} of {count} updates" if count > len(trips) else ""
    aside = h.span(".note")[f"round {format_number(shown.number)}{more}; idle time is squeezed"]
    label = f"what happened in round {shown.number}"
    return Section(
        "timeline", "From check-in to release", draw_timeline(trips, shown.steps, label=label), "wide", aside
    )


def _list_open_scores(moment: Moment, line: TaskLine) -> dict[int, str]:
    """What the scores of the newest versions wait for where they are not final, over all examples."""
    rows = courses.list_standings(moment, line.task)
    return {row["version"]: row["standing"] for row in rows if not row["cohort"] and row["status"] != "final"}


def _show_versions(moment: Moment, line: TaskLine) -> Section:
    scores, open_scores = dict(line.scores), _list_open_scores(moment, line)
    rows = [
        (
            h.a(href=moment.link_version(line.task, row["version"]))[format_number(row["version"])],
            open_scores.get(row["version"]) or format_number(scores.get(row["version"]), digits=4),
            format_number(row["members"]),
            format_bytes(row["model_size"]),
            format_clock(row["at_ms"]),
        )
        for row in courses.list_versions(moment, line.task)
    ]
    columns = ["version", line.metric or "score", "updates", "model", "published, UTC"]
    table = make_table(columns, rows, caption="the newest versions") if rows else h.p(".empty")["No version yet."]
    return Section("versions", "Newest versions", table, "wide")
