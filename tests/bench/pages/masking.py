"""What docs/performance.md says of masked sums, and of what a device does before it sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.measures.masking.rows import DEVICE_AIM_MS, HELPER_AIM_S, LOOP_AIM
from tests.bench.pages.text import kept, table, wrap

Rows = Sequence[dict[str, Any]]


def tell_masking(rows: Rows) -> str:
    """A round beside SecAgg+ by size and share of devices that drop out, a device in each codec, and the loop."""
    rounds = [row for row in rows if row["more"]["what"] == "round"]
    large = [row for row in rounds if row["params"] == max(each["params"] for each in rounds)]
    device_ms = max(row["cpu_ms_per_update"] for row in large)
    helper_s = max(row["more"]["helper_cpu_s"] for row in large)
    said = wrap(
        f"Aims at {large[0]['params']:,} parameters: a device at most {DEVICE_AIM_MS:g} ms, "
        f"{kept(device_ms <= DEVICE_AIM_MS)}, {device_ms:g} ms; a helper at most {HELPER_AIM_S:g} s a round, "
        f"{kept(helper_s <= HELPER_AIM_S)}, {helper_s:g} s."
    )
    head = ("parameters", "dropped", "who", "device ms", "helper s", "server s", "to the sum s", "up MB", "ratio")
    body = [line for row in rounds for line in _list_lines(row)]
    steps = ("parameters", "codec", "clip ms", "encode ms", "mask and seal ms", "CPU ms")
    devices = [
        (row["params"], row["codec"], more["clip_ms"], more["encode_ms"], more.get("mask_ms"), row["cpu_ms_per_update"])
        for row in rows
        for more in (row["more"],)
        if more["what"] == "device"
    ]
    loops = [row for row in rows if row["more"]["what"] == "loop"]
    return "\n\n".join([wrap(said), table(head, body), table(steps, devices), *(_tell_loops(loops) if loops else ())])


def _tell_loops(rows: Rows) -> list[str]:
    least = min(row["ratio_median"] for row in rows)
    said = f"Aim, the whole loop masked at {LOOP_AIM:.0%} of the plain rate: {kept(least >= LOOP_AIM)}, {least:.0%}."
    parts = list(rows[0]["more"]["cpu_ms_of"])
    head = ("parameters", "tier", "updates/s", "CPU ms", *parts, "ratio (least … most)")
    body: list[tuple[Any, ...]] = []
    for row in rows:
        more, ratio = row["more"], f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} … {row['ratio_max']:.2f})"
        rates = (row["params"], "masked", row["updates_per_s"], row["cpu_ms_per_update"])
        body.append((*rates, *(more["cpu_ms_of"][part] for part in parts), ratio))
        plain = (row["params"], "plain", more["plain_updates_per_s"], more["plain_cpu_ms"])
        body.append((*plain, *(more["plain_cpu_ms_of"][part] for part in parts), ""))
    return [wrap(said), table(head, body)]


def _list_lines(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    more, at = row["more"], (row["params"], row["more"]["dropped"])
    ours = (*at, "fedlog", *(more[name] for name in ("device_cpu_ms", "helper_cpu_s", "server_cpu_s", "sum_s")))
    lines = [(*ours, round(more["up_bytes"] / 1e6, 2), "")]
    if row["peer"]:
        ratio = f"{row['ratio_median']:.0f} ({row['ratio_min']:.0f} … {row['ratio_max']:.0f})"
        theirs = (*at, row["peer"], more["peer_device_cpu_ms"], None, more["peer_server_cpu_s"], more["peer_sum_s"])
        lines.append((*theirs, round(more["peer_up_bytes"] / 1e6, 2), ratio))
    return lines
