"""A newcomer with a browser: the demo, who is in a version and what it cost, back in time, a fork that trains, a kill.

    make page-visit

Takes a few minutes. Every number that is read on the page is asked for again with `fedlog query`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from ops.console import say
from tests.root import ROOT
from tests.trials.page.browsing import CHROMIUM

FEDLOG = [sys.executable, "-P", "-m", "ops.terminal.cli"]
PATIENCE_S = 300.0
VERSION, BACK, FORK = 12, 5, "digits-b"
FIGURES = "[...document.querySelectorAll('#lead .figure')].map(one => one.innerText)"


class Visit:
    """One visitor of the demo in a folder."""

    def __init__(self, folder: Path, page: Page) -> None:
        self._options, self.page = ["--folder", str(folder)], page
        self.faults: list[str] = []
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))

    def fedlog(self, *words: str) -> str:
        """What a command says, in the folder of the demo."""
        demo = [self._options[0], f"{self._options[1]}/demo"]
        done = subprocess.run([*FEDLOG, *demo, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def query(self, sql: str) -> list[str]:
        """The first row of an answer."""
        return self.fedlog("query", sql, "--csv").splitlines()[1].split(",")

    def require(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        say(f"  {'yes' if holds else 'NO'}: {what}")
        if not holds:
            self.faults.append(what)

    def wait(self, what: str, holds: Callable[[], object]) -> None:
        """Wait for something on the page. Raises TimeoutError."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > give_up_s:
                raise TimeoutError(what)
            self.page.wait_for_timeout(200)
        say(f"  {what}")

    def read_version(self) -> int:
        """The version that stands on the page of a task, -1 for none."""
        digits = re.sub(r"\D", "", self.page.evaluate(FIGURES)[0].splitlines()[1])
        return int(digits) if digits else -1

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error":
            self.faults.append(f"console: {text}")


def look_into_a_version(visit: Visit) -> None:
    """Who is in it, and what it cost."""
    page, address = visit.page, visit.page.url.split("/tasks")[0]
    page.goto(f"{address}/tasks/digits")
    visit.wait(f"version {VERSION} is there", lambda: visit.read_version() >= VERSION)
    page.goto(f"{address}/tasks/digits/versions/{VERSION}")
    members = page.locator("#members tbody tr").count()
    cost = page.locator("#ledger tbody tr").inner_text().split("\t")
    asked = f"FROM updates WHERE task = 'digits' AND version = {VERSION} AND outcome = 'admitted'"
    [count] = visit.query(f"SELECT count(*) {asked}")
    visit.require(members == int(count), f"{members} updates are in it, as the history says ({count})")
    [epsilon] = visit.query(
        "SELECT epsilon FROM ledger JOIN versions USING (task, round_id) "
        f"WHERE task = 'digits' AND versions.version = {VERSION}"
    )
    shown = [text for text in cost if re.fullmatch(r"[\d.]+", text)]
    visit.require(f"{float(epsilon):.4g}" in shown, f"ε {float(epsilon):.4g} is what it cost, of {shown}")


def go_back(visit: Visit) -> None:
    """To version 5 by its bookmark, and back to now with one key."""
    page = visit.page
    page.goto(f"{page.url.split('/tasks')[0]}/tasks/digits?at=digits@{BACK}")
    visit.require(visit.read_version() == BACK, f"as of version {BACK} the newest is version {BACK}")
    with page.expect_navigation():
        page.keyboard.press("n")
    visit.require(visit.read_version() >= VERSION, "n leads back to now")


def kill_the_aggregator(visit: Visit) -> None:
    """From the page; the task goes on by itself."""
    page = visit.page
    address, before = page.url.split("/tasks")[0], visit.read_version()
    page.goto(f"{address}/system")
    page.get_by_role("link", name="Kill the aggregator").click()
    page.get_by_role("button", name="Kill the aggregator").click()
    told = page.locator("#kill").inner_text()
    visit.require("is dead" in told, " ".join(told.split()))
    page.goto(f"{address}/tasks/{FORK}")
    visit.wait("a version follows the kill", lambda: visit.read_version() > before)


def fork_and_watch(visit: Visit, *, train: Callable[[], Any]) -> None:
    """From version 12; with devices it trains, and the page shows it."""
    page = visit.page
    page.goto(f"{page.url.split('/tasks')[0]}/tasks/digits/versions/{VERSION}")
    page.get_by_role("link", name="Fork from here").click()
    page.locator("input[name=name]").fill(FORK)
    # The first task has spent most of its budget, and all of that counts.
    page.locator("input[name=rho_max]").fill("30")
    page.get_by_role("button", name="Fork digits").click()
    visit.require(page.url.endswith(f"/tasks/{FORK}"), f"the fork has its page: {page.url.split('/', 3)[3]}")
    train()
    visit.wait("the fork trains", lambda: visit.read_version() >= 2)
    [version] = visit.query(f"SELECT max(version) FROM versions WHERE task = '{FORK}'")
    visit.require(int(version) >= visit.read_version(), f"the history has version {version} of it")


def main() -> int:
    """The whole visit; 1 where something is wrong."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, fleets = Path(name) / "fedlog", []
        words = [*FEDLOG, "--folder", str(folder), "demo", "--keep"]
        log = (Path(name) / "demo.log").open("w+")
        demo = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visit = Visit(folder, browser.new_page())

        def train() -> None:
            fleet = ["--folder", str(folder / "demo"), "fleet", "--task", FORK, "--devices", "100"]
            fleets.append(subprocess.Popen([*FEDLOG, *fleet], cwd=ROOT, stdout=log, stderr=log))

        def find_address() -> re.Match[str] | None:
            return re.search(r"http://\S+token=\S+", Path(log.name).read_text())

        try:
            visit.wait("the demo says where its page is", lambda: find_address() or demo.poll() is not None)
            found = find_address()
            if found is None:
                raise RuntimeError(f"The demo has ended: {Path(log.name).read_text()[-2_000:]}")
            visit.page.goto(found[0])
            visit.require("token" not in visit.page.url, "the token is gone from the address")
            for step in (look_into_a_version, go_back, partial(fork_and_watch, train=train), kill_the_aggregator):
                say(getattr(step, "__name__", "fork and watch").replace("_", " "))
                step(visit)
        finally:
            browser.close()
            for child in [*fleets, demo]:
                child.terminate()
                child.wait(60)
            visit.fedlog("stop")
            say("\n".join(Path(log.name).read_text().splitlines()[-4:]))
    for fault in visit.faults:
        say(f"- {fault}")
    return 1 if visit.faults else 0


if __name__ == "__main__":
    sys.exit(main())
