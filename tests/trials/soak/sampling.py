"""What each process holds at a moment: memory, threads, handles, lag; and the disk, part by part."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.deployment.product import WORKERS, Product

SCRAPE_S = 2.0
LAG = "fedlog_input_lag_records"
MIB = 1024 * 1024
# What a broker keeps open of each partition.
SEGMENTS = {".log", ".index", ".timeindex", ".txnindex", ".snapshot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure of one life of one part; `life` is when that began, 0 for disks."""

    part: str
    figure: str
    life: float
    at_s: float
    value: float


@dataclass(slots=True)
class Sampler:
    """Looks at a product again and again."""

    product: Product
    begun_s: float = field(default_factory=time.time)
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> None:
        """Add one sample of everything; what has just died has none."""
        at_s, lives = round(time.time() - self.begun_s, 1), {}
        for part in self.product.list_parts():
            lives[part.name] = life = round(part.since_s - self.begun_s, 1)
            self._add(part.name, life, at_s=at_s, figures=read_process(part.process))
        for name, port in self.product.find_metrics_ports().items():
            if name in WORKERS:
                self._add(name, lives.get(name, 0.0), at_s=at_s, figures=read_lag(port))
        for name, size in measure_folder(self.product.settings.folder).items():
            self._add(name, 0.0, at_s=at_s, figures=[("disk", size / MIB)])

    def _add(
        self, part: str, life: float, *, at_s: float, figures: Iterator[tuple[str, float]] | list[tuple[str, float]]
    ) -> None:
        self.samples += [
            Sample(part=part, figure=figure, life=life, at_s=at_s, value=round(value, 3)) for figure, value in figures
        ]


def read_process(process: psutil.Process) -> Iterator[tuple[str, float]]:
    """Yield its figures; `memory` is what nobody else could use, `resident` has pages of files in it as well."""
    with suppress(psutil.Error, OSError, ValueError, KeyError):
        # Pages of mapped files are the kernel's, which takes them back; a leak is in pages without a file.
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        told = dict(line.split(":", 1) for line in lines)
        connected = {each.fd for each in process.net_connections("all")}
        handles = sum(_is_kept(each, connected) for each in Path(f"/proc/{process.pid}/fd").iterdir())
        yield "memory", int(told["RssAnon"].split()[0]) / 1024
        yield "resident", int(told["VmRSS"].split()[0]) / 1024
        yield "threads", int(told["Threads"])
        yield "handles", handles


def _is_kept(handle: Path, connected: set[int]) -> bool:
    with suppress(FileNotFoundError):
        leads_to = handle.readlink()
        # A broker that was away has refused it: kafka-python leaves it to Python's collector of garbage.
        if leads_to.name.startswith("socket:"):
            return int(handle.name) in connected
        # Those of the log's own files are the log's.
        return leads_to.suffix not in SEGMENTS
    return False


def read_lag(port: int) -> Iterator[tuple[str, float]]:
    """Yield how many offsets an actor has not decided, over all its inputs, as it tells Prometheus itself."""
    with suppress(OSError, ValueError):
        lags = [value for name, _, value in scrape(port) if name == LAG]
        if lags:
            yield "lag", sum(lags)


def scrape(port: int) -> list[tuple[str, dict[str, str], float]]:
    """Every sample that a process of this machine serves: name, labels, value. Raises OSError, ValueError."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_S) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return [(each.name, dict(each.labels), each.value) for family in families for each in family.samples]


def measure_folder(folder: Path) -> dict[str, int]:
    """Bytes on the disk of each part of a deployment's folder: records of the log apart from all else of the broker."""
    sizes: dict[str, int] = {"log": 0, "broker beside the log": 0}
    for where, _, names in os.walk(folder):
        parts = Path(where).relative_to(folder).parts
        for name in names:
            with suppress(OSError):
                # Blocks, because indexes are made large and filled later.
                size = (Path(where) / name).stat().st_blocks * 512
                place = _name_place(parts, name)
                sizes[place] = sizes.get(place, 0) + size
    return sizes


def _name_place(parts: tuple[str, ...], name: str) -> str:
    if parts[:1] == ("broker",):
        return (
            "log"
            if name.endswith(".log") and "data" in parts and "__cluster" not in parts[-1]
            else "broker beside the log"
        )
    if name.startswith("history.duckdb"):
        return "history"
    return {"logs": "what processes log", "epoch-keys": "epoch keys"}.get(parts[0], parts[0]) if parts else "files"
