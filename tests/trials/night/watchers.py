"""Those who should notice at night: `fedlog doctor`, a real Prometheus with ops/alerts.yml, and the page."""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener, urlopen

import yaml

from tests.root import ROOT
from tests.worlds.deployment.product import Product, find_port

ASK_S = 30.0
READY_WITHIN_S = 60.0


class Prometheus:
    """A Prometheus over one deployment, as ops/prometheus.yml sets it up but for its targets."""

    def __init__(self, program: str, folder: Path) -> None:
        self._folder, self._port = folder, find_port()
        self._targets = folder / "targets.json"
        self._program = program

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run it while this is entered."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((ROOT / "ops" / "prometheus.yml").read_text())
        config["rule_files"] = [str(ROOT / "ops" / "alerts.yml")]
        # Ports change with every start here, where a cluster has names.
        job = next(each for each in config["scrape_configs"] if each["job_name"] == "fedlog")
        del job["static_configs"]
        job["file_sd_configs"] = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        config["scrape_configs"] = [job]
        self._targets.write_text("[]")
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        words = [f"--config.file={self._folder / 'prometheus.yml'}", f"--storage.tsdb.path={self._folder / 'data'}"]
        with (self._folder / "prometheus.log").open("wb") as output:
            process = subprocess.Popen(
                [self._program, *words, f"--web.listen-address=127.0.0.1:{self._port}"],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
            yield
        finally:
            process.terminate()
            process.wait()

    def aim(self, ports: Mapping[str, int]) -> None:
        """Ask these from now on."""
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"part": name}} for name, port in ports.items()]
        told = json.dumps(targets)
        if told != self._targets.read_text():
            written = self._targets.with_suffix(".new")
            written.write_text(told)
            written.replace(self._targets)

    def list_firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires now."""
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/alerts", timeout=ASK_S) as answer:
            told: dict[str, Any] = json.load(answer)
        return [alert["labels"] for alert in told["data"]["alerts"] if alert["state"] == "firing"]

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up_s:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=ASK_S):
                return
            time.sleep(0.2)
        raise TimeoutError(f"{self._program} is not ready; see {self._folder / 'prometheus.log'}")


@dataclass(slots=True)
class Page:
    """An operator who looks at the page "System"."""

    product: Product
    _opener: OpenerDirector | None = field(default=None)

    def read(self) -> str:
        """The text of the view; empty where nobody answers."""
        address = f"http://127.0.0.1:{self.product.ports['serve']}/system"
        with suppress(OSError, ValueError):
            self._opener = opener = self._opener or self._log_in()
            try:
                with opener.open(address, timeout=ASK_S) as answer:
                    told = answer.read()
            except OSError as error:
                # Where the history does not answer the status says so, and the page is read all the same.
                told = error.read() if hasattr(error, "read") else b""
            return unescape(re.sub(r"<[^>]+>", " ", told.decode()))
        return ""

    def _log_in(self) -> OpenerDirector:
        lines = self.product.services.services["serve"].log.read_text(errors="replace").splitlines()
        address = next((line for line in lines if line.startswith("http")), "")
        opener = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
        # It leads to the page, which need not answer.
        with suppress(OSError):
            opener.open(address, timeout=ASK_S).close()
        return opener


def ask_doctor(product: Product) -> list[dict[str, str]]:
    """What the command finds, each with its remedy."""
    found: list[dict[str, str]] = (product.ask("doctor", "--json") or {}).get("findings", [])
    return found
