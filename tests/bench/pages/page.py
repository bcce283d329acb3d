"""docs/performance.md and its plots, from the rows; never edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import peer
from tests.bench.measures import noise
from tests.bench.measures.masking import rows as masking
from tests.bench.measures.robust import rows as robust
from tests.bench.pages.chart import Panel, svg
from tests.bench.pages.doors import tell_gateway
from tests.bench.pages.masking import tell_masking
from tests.bench.pages.robust import tell_robust
from tests.bench.pages.text import cell, kept, table, wrap
from tests.bench.pages.web import tell_page
from tests.bench.rows import crowd, demo, end_to_end, gateway, growth, history, ingest, latency, replay, shards, tasks
from tests.bench.rows import page as web_page
from tests.trials.results import ROOT

PAGE, TEXT = ROOT / "docs" / "performance.md", Path(__file__).with_name("performance.md")
PLOTS = ROOT / "docs" / "plots"
Rows = Sequence[dict[str, Any]]
HISTORY = {
    "build": ("decisions", "updates", "rows", "cpu_s", "wall_s", "decisions_per_s", "peak_mb", "file_mb"),
    "wait": ("events_per_s", "events", "p50_ms", "p99_ms", "max_ms"),
    "console": ("command", "decisions", "seconds", "fold_s"),
    "ask": ("question", "updates", "seconds", "events_s", "ratio"),
}
STAGES = ("fetch", "digest", "decode", "norm", "add", "seal and signature", "actor", "journal", "answers", "others")


def write(told: Rows) -> None:
    """The text of tests/bench/pages/performance.md with each `<!-- name -->` replaced by what was measured."""
    text = TEXT.read_text()
    for name, section in SECTIONS.items():
        mine = [row for row in told if row["name"] == name]
        text = text.replace(f"<!-- {name} -->", section(mine) + _stamp(mine) if mine else "Not measured yet.")
    PAGE.write_text(text)


def _stamp(rows: Rows) -> str:
    """When, on what, and how to do it again."""
    row, machine = rows[0], dict(rows[0]["machine"])
    loads = [each["machine"]["load"] for each in rows]
    what = f"{machine.pop('cpu')}, {machine.pop('cores')} cores, {machine.pop('memory_gb')} GB, {machine.pop('system')}"
    machine.pop("load")
    if row["name"] in {"end_to_end", "demo", "crowd"}:
        machine |= {"Flower": peer.FLOWER} | ({"NVFlare": peer.NVFLARE} if row["name"] == "end_to_end" else {})
    if row["name"] in {gateway.NAME, masking.NAME}:
        machine |= {"Flower": peer.REQUIREMENTS["flower-apps"][0].rpartition("=")[2]}
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    others = [each for each in rows if each["began"] != row["began"]]
    older = {each["peer"]: f"{each['began'][:10]}, commit {each['commit']}" for each in others}
    versions += "".join(f". The rows of {name or 'fedlog alone'} are those of {when}" for name, when in older.items())
    return "\n\n" + wrap(
        f"`make bench ONLY={row['name']}`, {row['began'][:10]}, commit {row['commit']}: {what}; {versions}. "
        f"Load of the machine while it was measured, the bench included: {min(loads):g} to {max(loads):g}."
    )


def _plot(name: str, panels: Sequence[Panel], *, what: str) -> str:
    PLOTS.mkdir(exist_ok=True)
    (PLOTS / f"{name}.svg").write_text(svg(panels))
    return f"![{what}](plots/{name}.svg)"


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio_median"] is None:
        return ""
    return f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} … {row['ratio_max']:.2f})"


def _ingest(rows: Rows) -> str:
    sizes = sorted({row["params"] for row in rows})
    lines = {
        f"{codec}{kind}": [of(_one(rows, params=size, codec=codec)) for size in sizes]
        for codec in ("int8", "float32")
        for kind, of in (("", lambda row: row["cpu_ms_per_update"]), (" floor", lambda row: row["more"]["floor_ms"]))
    }
    head = ("parameters", "codec", "updates/s", "CPU ms", "wall ms", "floor ms", "MB/s", "share of the floor")
    body = [
        (
            *(row["params"], row["codec"], row["updates_per_s"], row["cpu_ms_per_update"], row["more"]["wall_ms"]),
            *(row["more"]["floor_ms"], row["mb_per_s"], _ratio(row)),
        )
        for row in rows
    ]
    stages = [(r["params"], r["codec"], *(r["more"]["stages_ms"].get(stage) for stage in STAGES)) for r in rows]
    gates = [row for row in rows if (row["params"], row["codec"]) == ingest.GATED]
    said = [
        f"Gate, at least {ingest.GATE:.0%} of the floor at {row['params']:,} parameters {row['codec']}: "
        f"{kept(not row['share_of_floor'] < ingest.GATE)}, {row['share_of_floor']:.0%}. Aim, {ingest.AIM_MS} ms: "
        f"{kept(row['cpu_ms_per_update'] <= ingest.AIM_MS)}, {row['cpu_ms_per_update']:g} ms."
        for row in gates
    ]
    panel = Panel(title="CPU ms an update", x_label="parameters", x=sizes, lines=lines, log=True)
    return "\n\n".join(
        [
            *said,
            _plot("ingest", [panel], what="CPU an update against parameters"),
            table(head, body),
            "CPU ms of each stage (`others` is what runs in no Python thread, and the interpreter):",
            table(("parameters", "codec", *STAGES), stages),
        ]
    )


def _end_to_end(rows: Rows) -> str:
    sizes = sorted({row["params"] for row in rows})
    peers = list(dict.fromkeys(row["peer"] for row in rows if row["peer"]))
    lines = {
        codec: [_one(rows, params=size, codec=codec)["updates_per_s"] for size in sizes] for codec in end_to_end.CODECS
    } | {name: [_one(rows, params=size, peer=name)["more"]["peer_updates_per_s"] for size in sizes] for name in peers}
    body = [
        (
            *(row["params"], row["codec"], row["updates_per_s"], row["cpu_ms_per_update"], row["more"]["floor_ms"]),
            *(row["mb_per_s"], row["peer"], row["more"].get("peer_updates_per_s"), _ratio(row)),
        )
        for row in rows
    ]
    aims = [
        wrap(
            f"- {row['params']:,} parameters, {row['codec']}: {kept(row['ratio_median'] >= end_to_end.AIM)}, "
            f"{row['ratio_median']:.2f}. It would leave {row['more']['aim_ms']:g} ms of CPU for an update; the "
            f"arithmetic alone takes {row['more']['floor_ms']:g} ms, all of it {row['cpu_ms_per_update']:g} ms",
            indent="  ",
        )
        for row in rows
        if row["peer"] == "flower engine"
    ]
    head = ("parameters", "codec", "updates/s", "CPU ms", "arithmetic ms", "MB/s")
    head = (*head, "peer", "peer's updates/s", "ratio (least … most)")
    panel = Panel(title="Updates a second", x_label="parameters", x=sizes, lines=lines, log=True)
    return "\n\n".join(
        [
            f"Aim, {end_to_end.AIM:g} times Flower's engine:\n\n" + "\n".join(aims),
            _plot("end_to_end", [panel], what="Updates a second against parameters"),
            table(head, body),
        ]
    )


def _latency(rows: Rows) -> str:
    head = ("parameters", "privacy", "releases", "p50 ms", "p99 ms", "most ms", "updates/s meanwhile")
    body = [
        (
            *(row["params"], "yes" if row["more"]["private"] else "no", row["more"]["releases"]),
            *(row["more"]["p50_ms"], row["more"]["p99_ms"], row["more"]["max_ms"], row["updates_per_s"]),
        )
        for row in rows
    ]
    said = [
        f"Aim, p99 at most {aim_ms} ms at {row['params']:,} parameters {how} privacy: "
        f"{kept(row['more']['p99_ms'] <= aim_ms)}, {row['more']['p99_ms']:g} ms."
        for private, how, aim_ms in ((False, "without", latency.AIM_MS), (True, "with", latency.PRIVATE_AIM_MS))
        for row in rows
        if row["params"] == max(latency.TRAINING_MS) and row["more"]["private"] is private
    ]
    plain, private = ([r for r in rows if r["more"]["private"] is wanted] for wanted in (False, True))
    lines = {
        f"{which} {name}": [row["more"][f"{which}_ms"] for row in of]
        for which in ("p50", "p99")
        for name, of in (("plain", plain), ("private", private))
    }
    panel = Panel(title="ms to ModelPublished", x_label="parameters", x=_sizes(plain), lines=lines, log=True)
    return "\n\n".join([*said, _plot("latency", [panel], what="Latency against parameters"), table(head, body)])


def _noise(rows: Rows) -> str:
    head = ("parameters", "rungs", "CPU ms", "beside", "its CPU ms", "ratio (least … most)")
    body = [
        (
            *(row["params"], row["more"]["rungs"], row["cpu_ms_per_update"]),
            *(row["peer"], row["more"]["peer_cpu_ms"], _ratio(row)),
        )
        for row in rows
    ]
    slowest = max(row["cpu_ms_per_update"] for row in rows)
    said = f"Aim, at most {noise.AIM_MS} ms: {kept(slowest <= noise.AIM_MS)}, {slowest:g} ms."
    return "\n\n".join([said, table(head, body)])


def _replay(rows: Rows) -> str:
    head = (
        "parameters",
        "replay, CPU ms an update",
        "aggregator, CPU ms",
        "ratio (least … most)",
        "peak MB",
        "wall ms",
    )
    body = [
        (
            row["params"],
            row["cpu_ms_per_update"],
            more["peer_cpu_ms"],
            _ratio(row),
            more["peak_mb"],
            more.get("wall_ms"),
        )
        for row in rows
        for more in (row["more"],)
    ]
    lines = {"replay": [row[1] for row in body], "aggregator": [row[2] for row in body]}
    panel = Panel(title="CPU ms an update", x_label="parameters", x=[row[0] for row in body], lines=lines, log=True)
    return "\n\n".join([_plot("replay", [panel], what="CPU an update against parameters"), table(head, body)])


def _history(rows: Rows) -> str:
    told = {what: [row["more"] for row in rows if row["more"]["what"] == what] for what in HISTORY}
    peaks = [each["peak_mb"] for each in told["build"]]
    judged = [
        *((f"{x['decisions']:,} decisions, a second", x["decisions_per_s"], "decisions_per_s") for x in told["build"]),
        ("peak of memory, the longest through the shortest", max(peaks) / min(peaks), "memory"),
        *(("from append to tables, p99 in ms", x["p99_ms"], "p99_ms") for x in told["wait"]),
        *((f"`fedlog {x['command']}`, seconds", x["seconds"], "seconds") for x in told["console"]),
        *((f"{x['question']}, times as fast", x["ratio"], "ratio") for x in told["ask"]),
    ]
    said = [
        f"- {what}: {kept(history.is_kept(aim, value))}, {cell(value)}, aim {cell(history.AIMS[aim])}"
        for what, value, aim in judged
    ]
    tables = [table(names, [[each[name] for name in names] for each in told[what]]) for what, names in HISTORY.items()]
    return "\n\n".join(["\n".join(said), *tables])


def _shards(rows: Rows) -> str:
    head = ("shards", "aggregator, CPU ms", "ratio (least … most)", "peak MB", "shard workers, CPU ms", "peak MB")
    body = [
        (
            *(row["more"]["shards"], row["cpu_ms_per_update"], _ratio(row), row["more"]["peak_mb"]),
            *(row["more"][name] if row["more"]["shards"] > 1 else "" for name in ("shard_cpu_ms", "shard_peak_mb")),
        )
        for row in rows
    ]
    x = [row["more"]["shards"] for row in rows]
    lines = {
        "aggregator": [row["cpu_ms_per_update"] for row in rows],
        "shard workers": [row["more"]["shard_cpu_ms"] for row in rows],
    }
    panel = Panel(title="CPU ms an update", x_label="shards", x=x, lines=lines)
    return "\n\n".join([_plot("shards", [panel], what="CPU an update against shards"), table(head, body)])


def _tasks(rows: Rows) -> str:
    """One part for each number of partitions; rows of before there were several do not name it with each wait."""
    parts = [row["more"] for row in rows if "curve" in row["more"]]
    waits = [row["more"] for row in rows if "when" in row["more"]]
    mine = [
        [wait for wait in waits if wait.get("partitions", told["partitions"]) == told["partitions"]] for told in parts
    ]
    names = ["tasks", *(f"tasks-{told['partitions']}" for told in parts[1:])]
    return "\n\n".join(_tell_tasks(*part) for part in zip(names, parts, mine, strict=True))


def _tell_tasks(name: str, told: dict[str, Any], waits: list[dict[str, Any]]) -> str:
    columns = ("when", "actor", "decisions", "decisions_per_s", "p50_ms", "p99_ms", "max_ms")
    x, p50, p99 = zip(*told["curve"], strict=True)
    panel = Panel(
        title=f"ms to a decision, a worker joins at {cell(told['curve_join_s'])} s",
        x_label="seconds of load",
        x=x,
        lines={"p50": p50, "p99": p99},
    )
    moved = ", ".join(f"{count} of the {actor}'s" for actor, count in told["moved"].items())
    said = wrap(
        f"{told['tasks']:,} tasks on {told['partitions']} partitions and {told['workers']} workers an actor: "
        f"{cell(told['created_s'])} s from the creation of the first task until each had its version 0. "
        f"{told['devices']:,} devices, each asking every {told['period_s']:g} s, brought all of them to version "
        f"{told['versions']}. Then one more worker an actor took over partitions: {moved}; {told['opened_anew']} were "
        f"opened again in all. The longest time without a commit in one that moved was {cell(told['still_s'])} s, and "
        f"{cell(told['still_before_s'])} s before. Nothing was lost, nothing decided twice. A worker had at most "
        f"{cell(told['peak_mb'])} MB."
    )
    head = ("load", "actor", "decisions", "decisions/s", "p50 ms", "p99 ms", "most ms")
    waited = table(head, [[wait[column] for column in columns] for wait in waits])
    return "\n\n".join([said, _plot(name, [panel], what="Waits against time"), waited])


def _growth(rows: Rows) -> str:
    panels = []
    for curve in growth.CURVES:
        mine = [row for row in rows if row["more"]["against"] == curve]
        x = [row["more"]["at"] for row in mine]
        for title, values in (
            ("CPU ms", [row["cpu_ms_per_update"] for row in mine]),
            ("peak MB", [row["more"]["peak_mb"] for row in mine]),
        ):
            panels.append(Panel(title=f"{title} against {curve}", x_label=curve, x=x, lines={"": values}, log=True))
    body = [
        (m["against"], m["at"], row["cpu_ms_per_update"], m["exponent"], m["peak_mb"])
        for row in rows
        for m in (row["more"],)
    ]
    worst = {
        curve: max((m["exponent"] for r in rows if (m := r["more"])["against"] == curve and m["exponent"]), default=0)
        for curve in growth.CURVES
    }
    said = [
        f"- {curve}: {kept(worst[curve] <= growth.EXPONENT_MAX[curve])}, exponent up to {worst[curve]:g}, at most "
        f"{growth.EXPONENT_MAX[curve]:g}"
        for curve in growth.CURVES
    ]
    ks = [row["more"]["peak_mb"] for row in rows if row["more"]["against"] == "K"]
    said.append(f"- memory in K: {kept(max(ks) <= 1.5 * min(ks))}, {min(ks):g} to {max(ks):g} MB")
    head = ("against", "at", "CPU ms an update", "exponent since the point before", "peak MB")
    return "\n\n".join(["\n".join(said), _plot("growth", panels, what="Growth"), table(head, body)])


def _demo(rows: Rows) -> str:
    [row] = rows
    more = row["more"]
    sides = [
        (name, more[f"{key}curve"]) for name, key in (("fedlog", ""), ("Flower", "peer_")) if f"{key}curve" in more
    ]
    end_s = max(curve[-1][0] for _, curve in sides)
    x = [end_s * part / 60 for part in range(61)]
    lines = {name: [max(acc for at, acc in curve if at <= second) for second in x] for name, curve in sides}
    body = [
        (name, more[f"{key}updates_per_s"], ", ".join(cell(each) or "never" for each in more[f"{key}seconds_to_goal"]))
        for name, key in (("fedlog, int8", ""), (row["peer"], "peer_"))
        if f"{key}updates_per_s" in more
    ]
    panel = Panel(title="Best accuracy so far", x_label="seconds", x=x, lines=lines)
    head = ("system", "device-rounds a second", f"seconds to {demo.GOAL:.2f}, each run")
    said = []
    if row["peer"]:
        is_kept = kept(row["ratio_median"] >= demo.AIM)
        said = [f"Aim, {demo.AIM:g} times Flower's engine: {is_kept}, {_ratio(row)}."]
    plot = _plot("demo", [panel], what="Accuracy against time")
    return "\n\n".join([*said, plot, table(head, body), *_demo_parts(row)])


def _demo_parts(row: dict[str, Any]) -> list[str]:
    """Where the processor's time goes, and what it would come to if each part took none."""
    parts, whole = row["more"].get("cpu_ms_of", {}), row["cpu_ms_per_update"]
    if not parts:
        return []
    body = [
        (part, ms, row["updates_per_s"] * whole / (whole - ms), (row["ratio_median"] or 0) * whole / (whole - ms))
        for part, ms in sorted(parts.items(), key=lambda item: -item[1])
    ]
    head = ("part", "CPU ms a device-round", "device-rounds a second if it took none", "ratio then")
    return ["Where the time of the cores goes, which are all that limits it:", table(head, body)]


def _crowd(rows: Rows) -> str:
    head = ("system", "device-rounds a second", "CPU ms", "ratio (least … most)")
    body: list[tuple[Any, ...]] = []
    for row in rows:
        body.append(("fedlog, int8", row["updates_per_s"], row["cpu_ms_per_update"], None))
        if row["peer"]:
            body.append((row["peer"], row["more"]["peer_updates_per_s"], None, _ratio(row)))
    return table(head, body)


def _one(rows: Rows, **wanted: Any) -> dict[str, Any]:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def _sizes(rows: Rows) -> list[int]:
    return [row["params"] for row in rows]


SECTIONS: dict[str, Callable[[Rows], str]] = {
    ingest.NAME: _ingest,
    end_to_end.NAME: _end_to_end,
    latency.NAME: _latency,
    noise.NAME: _noise,
    replay.NAME: _replay,
    history.NAME: _history,
    web_page.NAME: tell_page,
    gateway.NAME: tell_gateway,
    shards.NAME: _shards,
    robust.NAME: tell_robust,
    masking.NAME: tell_masking,
    tasks.NAME: _tasks,
    growth.NAME: _growth,
    demo.NAME: _demo,
    crowd.NAME: _crowd,
}
