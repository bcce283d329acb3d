"""`fedlog model`: the versions of a task, and one of them as files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.console import note, number, say, say_json, table
from ops.history.makeup import Makeup
from ops.history.task_view import TaskView
from ops.opening import find_operator, open_log_or_export
from ops.operator import deployments, tasks
from ops.terminal import standing
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas.canonical import to_plain
from schemas.events import count_elements
from schemas.identifiers import Version

app = typer.Typer(help="The versions of a task: list, export, download.", no_args_is_help=True)

Form = Annotated[str, typer.Option("--format", metavar="FORMAT", help="bin (flat float32), safetensors, pt or npz.")]
TaskName = Annotated[str, typer.Option(autocompletion=complete_task, help="Name of the task.")]


@app.command("list")
def list_versions(
    ctx: typer.Context,
    task: TaskName,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version.")] = False,
) -> None:
    """Show every version of a task, its score, and what it is made of.

    clipped: of how many updates the clip cut something off. codec loss: the mean share of an update's norm that the
    codec lost. effective: as many updates of one weight would say as much.
    """
    view, *_ = standing.find_one(ctx.obj, task, versions="only", from_files=from_files)
    if as_json:
        say_json(*(_tell(view, version) for version in sorted(view.published)))
        return
    score = view.metric_name or "score"
    columns = ("version", "round", "published", score, "clipped", "codec loss", "effective", "sha256", "stored in")
    table(columns, [_format_row(view, version) for version in sorted(view.published)])


@app.command()
def export(
    ctx: typer.Context,
    task: TaskName,
    out: Annotated[Path, typer.Option(help="Folder for the files; created if needed.")],
    version: Annotated[int | None, typer.Option(help="Version to export; default: the newest.", min=0)] = None,
    best: Annotated[bool, typer.Option("--best", help="Export the version with the evaluator's best score.")] = False,
    form: Form = "bin",
    from_files: FromFiles = None,
) -> None:
    """Write weights.bin and frozen.bin, or model.FORMAT with all tensors by name; config.json and privacy.log."""
    from ops.operator.model_files import read_files
    from ops.operator.models import choose_best, choose_version

    _check_form(form)
    if best and version is not None:
        raise ConsoleError("--best chooses the version itself: leave --version out.", exit_code=2)

    with open_log_or_export(ctx.obj, from_files) as log:
        view = tasks.find_view(log, task)
        chosen = choose_best(view) if best else choose_version(view, version)
        files = read_files(log, view, version=chosen, form=form)
    _write(files, out, view=view, version=chosen)


@app.command()
def download(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(autocompletion=complete_task, help="Name of the task.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the files; default: TASK/VERSION.")] = None,
    promoted: Annotated[bool, typer.Option("--promoted", help="What is in production, and not the newest.")] = False,
    device: Annotated[str, typer.Option(help="With --promoted: as this device, which may be in a canary.")] = "",
    cohort: Annotated[str, typer.Option(help="The cohort of that device.")] = "",
    form: Form = "bin",
    from_files: FromFiles = None,
) -> None:
    """Write the newest version, or the one that is in production, as `export` does.

    What is in production is what a rollout has signed; exit code 1 where nothing is.
    """
    from ops.operator.model_files import read_files
    from ops.operator.models import Production, User, choose_promoted, choose_version

    _check_form(form)
    if (device or cohort) and not promoted:
        raise ConsoleError("--device and --cohort ask for what is in production: add --promoted.", exit_code=2)
    operator = find_operator(ctx.obj)
    with open_log_or_export(ctx.obj, from_files) as log:
        view = tasks.find_view(log, task, operator=operator)
        version = None
        if promoted:
            standing = Production(operator, deployment=deployments.find(log, operator)).find(log, task)
            version = choose_promoted(standing, task, user=User(device=device, cohort=cohort))
        chosen = choose_version(view, version)
        files = read_files(log, view, version=chosen, form=form)
    _write(files, out or Path(task, str(chosen)), view=view, version=chosen)


def _check_form(form: str) -> None:
    from ops.operator.weight_files import FORMATS

    if form not in ("bin", *FORMATS):
        raise ConsoleError(f"--format {form}: one of bin, {', '.join(FORMATS)}.", exit_code=2)


def _write(files: Mapping[str, bytes], out: Path, *, view: TaskView, version: Version) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        # Only what is complete is written: all files were read before the folder was made.
        (out / name).write_bytes(content)
        say(str(out / name))
    if view.created is not None:
        frozen = count_elements(view.created.tensors, "frozen")
        also = f", and {frozen} that are frozen" if frozen else ""
        note(f"Version {version} of {view.task}: {view.created.parameters} parameters{also}.")


def _format_makeup(makeup: Makeup | None) -> tuple[str, str, str]:
    if makeup is None:
        return "", "", ""
    return f"{makeup.clipped}/{makeup.members}", number(makeup.codec_loss), number(makeup.updates_effective, 3)


def _tell(view: TaskView, version: Version) -> dict[str, Any]:
    metrics = view.evaluations[version].metrics if version in view.evaluations else None
    made_of = view.makeups[version].to_json() if version in view.makeups else None
    times = {"time_ms": view.published_ms[version]}
    return {**to_plain(view.published[version]), **times, "metrics": metrics, "made_of": made_of}


def _format_row(view: TaskView, version: int) -> tuple[object, ...]:
    model = view.published[version]
    when = datetime.fromtimestamp(view.published_ms[version] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        version,
        model.round,
        when,
        number(view.metric_of(version)),
        *_format_makeup(view.makeups.get(version)),
        model.model.sha256.hex()[:16],
        str(model.model),
    )
