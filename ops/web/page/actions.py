"""What operators may do from the page: each asks back once, on a page of its own that works without script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

import htpy as h
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ops.web.callers import Caller, find_caller
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment
from ops.web.page.questions.overview import list_tasks
from ops.web.problems import RequestRefused, problem_of
from schemas.errors import FedlogError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from ops.web.page.pages import Pages
    from ops.web.site import Site


@dataclass(frozen=True, slots=True)
class Action:
    """Something that changes a task: what it is called, what it does, and whether it can be undone."""

    title: str
    text: str
    is_final: bool = False


ACTIONS: Mapping[str, Action] = {
    "pause": Action("Pause", "No device gets a lease until somebody resumes it; leases that are out still count."),
    "resume": Action("Resume", "Devices get leases again."),
    "close": Action("Close", "It ends for good: the round that fills is abandoned, and no version follows.", True),
    "lift": Action("Lift the quarantine in", "The device gets leases again, and its updates count."),
    "fork": Action("Fork", "A new task starts from a version of this one. A private task is closed by that."),
}


def make_routes(pages: Pages) -> list[BaseRoute]:
    """For each action the page that asks back, and what it sends."""

    async def ask(request: Request) -> Response:
        return await run_in_threadpool(_ask, pages, request)

    async def act(request: Request) -> Response:
        form = _read_form(await request.body())
        return await run_in_threadpool(_act, pages, request, form=form)

    async def recompute(request: Request) -> Response:
        return await run_in_threadpool(_recompute, pages, request)

    async def kill(request: Request) -> Response:
        return await run_in_threadpool(_kill, pages, request)

    # One address for question and deed, so that a bookmark of it changes nothing.
    routes: list[BaseRoute] = []
    for name in ACTIONS:
        routes.append(Route(f"/tasks/{{task}}/{name}", ask, methods=["GET"], name=name))
        routes.append(Route(f"/tasks/{{task}}/{name}", act, methods=["POST"], name=name))
    routes.append(Route("/tasks/{task}/versions/{version:int}/recompute", recompute))
    routes.append(Route("/system/kill", kill, methods=["GET", "POST"]))
    return routes


def _ask(pages: Pages, request: Request, *, problem: str = "", status: int = 200) -> Response:
    """The page that asks back."""
    find_caller(request).require("operator")
    task, name = request.path_params["task"], request.url.path.rpartition("/")[2]
    moment = pages.make_moment(request)
    action = ACTIONS[name]
    # A browser sends its cookie with any form; this stands in ours alone.
    csrf = find_caller(request).csrf
    # In the address and not in the form, so that what was refused is asked again about the same device.
    device = request.query_params.get("device", "") if name == "lift" else ""
    query = f"?{urlencode({'device': device})}" if device else ""
    form = h.form(".ask", method="post", action=f"/tasks/{quote(task, safe='')}/{name}{query}")[
        h.p(".verdict.bad", role="alert")[problem] if problem else None,
        h.p[action.text],
        h.p(".note")[h.span(".id")[device]] if device else None,
        h.input(type="hidden", name="csrf", value=csrf),
        _draw_fork(moment, request, task=task) if name == "fork" else None,
        h.p(".row")[
            h.button(".danger" if action.is_final else ".strong", type="submit")[f"{action.title} {task}"],
            h.a(".button", href=moment.link_task(task))["Leave it"],
        ],
    ]
    section = Section("ask", f"{action.title} {task}?", form, "wide")
    page = Page(title=f"{action.title} {task}", area="/tasks", sections=[section], task=task, status=status)
    return pages.respond(request, page, moment=moment)


def _draw_fork(moment: Moment, request: Request, *, task: str) -> h.Node:
    newest = moment.ask_one("SELECT max(version) AS version FROM facts.model_published WHERE task = $task", task=task)
    version = request.query_params.get("version", "") or newest.get("version") or 0
    budget = next((line.budget for line in list_tasks(moment, task)), None)
    return [
        h.label["From version", h.input(name="version", type="number", min=0, value=str(version), required=True)],
        h.label["Name of the new task", h.input(name="name", value=f"{task}-b", required=True, maxlength=100)],
        # With nothing left to spend it would end with its first round, and whoever made it would wonder why.
        h.label[
            f"Privacy budget ρ, of which {budget.rho:.4g} is spent",
            h.input(name="rho_max", type="number", min=0, step="any", value=f"{budget.rho_max:g}", required=True),
        ]
        if budget
        else None,
    ]


def _act(pages: Pages, request: Request, *, form: Mapping[str, str]) -> Response:
    """Do it, and show what came of it; what was refused is asked again, with the reason."""
    task, name = request.path_params["task"], request.url.path.rpartition("/")[2]
    caller, target = find_caller(request), task
    try:
        target = _change(pages.site, task, name=name, form={**request.query_params, **form}, caller=caller)
    except FedlogError as error:
        problem = problem_of(error)
        return _ask(pages, request, problem=problem.detail or problem.title, status=problem.status)
    # The history has it by now, so that the page that follows shows it.
    return RedirectResponse(f"/tasks/{quote(target, safe='')}", 303)


def _change(site: Site, task: str, *, name: str, form: Mapping[str, str], caller: Caller) -> str:
    """The task to look at afterwards. Raises FedlogError."""
    match name:
        case "pause":
            site.operator.pause(task, caller=caller)
        case "resume":
            site.operator.resume(task, caller=caller)
        case "close":
            site.operator.close(task, caller=caller)
        case "lift":
            site.operator.lift(task, device=form.get("device", ""), caller=caller)
        case "fork":
            version = form.get("version", "")
            # What is no number is refused in the words for a version that is not there.
            number = int(version) if version.isascii() and version.isdecimal() and len(version) < 16 else -1
            rho_max = _read_amount(form.get("rho_max", ""))
            site.operator.fork(task, version=number, name=form.get("name", ""), caller=caller, rho_max=rho_max)
            return form.get("name", task)
    return task


def _read_amount(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise RequestRefused("rho_max: no number.") from None


def _recompute(pages: Pages, request: Request) -> Response:
    """The version made anew: the word identical, or the first difference. A part of the page, where one asks for it."""
    find_caller(request).require("operator")
    task, version = request.path_params["task"], int(request.path_params["version"])
    body = _draw_verdict(pages.site, task, version=version)
    # With script the verdict comes to where the button is; without, it has a page of its own.
    if request.headers.get("hx-request"):
        return HTMLResponse(str(h.fragment[body]))
    moment = pages.make_moment(request)
    back = h.p(".row")[h.a(".button", href=moment.link_version(task, version))["Back to the version"]]
    section = Section("check", f"{task}, version {version}, recomputed", [body, back], "wide")
    page = Page(title=f"{task}, version {version}", area="/tasks", sections=[section], task=task)
    return pages.respond(request, page, moment=moment)


def _draw_verdict(site: Site, task: str, *, version: int) -> h.Node:
    if site.evidence is None:
        return h.p(".verdict")["The log is not at hand here: fedlog replay --full recomputes it."]
    try:
        found = site.evidence.check_version(task, version)
    except FedlogError as error:
        return h.p(".verdict.bad")[str(error)]
    if found.differences:
        return h.p(".verdict.bad")[f"Different: {found.differences[0]}"]
    # Nothing found is no proof where nothing could be compared.
    if not found.compared:
        why = found.unchecked[0] if found.unchecked else "it is the operator's own model"
        return h.p(".verdict")[f"Nothing to compare: {why}."]
    return h.p(".verdict.good")["Identical: sum and model follow from the bodies, bit for bit."]


def _kill(pages: Pages, request: Request) -> Response:
    """The button of a demo: ends the aggregator, to see that nothing is lost."""
    caller = find_caller(request)
    caller.require("operator")
    moment = pages.make_moment(request)
    if pages.site.kill is None:
        body: h.Node = h.p(".empty")["Only a demo lets its aggregator be killed from the page."]
    elif request.method == "POST":
        body = [h.p(".verdict")[pages.site.kill()], h.p(".row")[h.a(".button", href="/tasks")["Watch the tasks"]]]
    else:
        body = h.form(".ask", method="post", action="/system/kill")[
            h.p[
                "kill -9 ends the process that holds the buffer, in the midst of a round. Its supervisor starts it "
                "again; the buffer comes back from the log, bit for bit."
            ],
            h.input(type="hidden", name="csrf", value=caller.csrf),
            h.p(".row")[h.button(".danger")["Kill the aggregator"], h.a(".button", href="/system")["Leave it"]],
        ]
    title = "Kill the aggregator"
    page = Page(title=title, area="/system", sections=[Section("kill", title, body, "wide")])
    return pages.respond(request, page, moment=moment)


def _read_form(body: bytes) -> dict[str, str]:
    # Bounded, or a form of a million fields would cost a million entries.
    found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
    return {name: values[0] for name, values in found.items()}
