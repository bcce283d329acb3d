"""Devices in the tabs of Debian's Chromium, over a real gateway and a real Kafka, and what their page looks like.

Run by `make typescript-browser`: ten tabs train digits to the task's end, without a word in the console and, by axe,
readable for everybody. The pictures of the page, in both schemes and widths, go to build/typescript.
"""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from ops.processes import broker
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.root import ROOT
from tests.trials.page.browsing import AXE, CHROMIUM, WIDTHS
from tests.trials.typescript.__main__ import DEVICES, PACKAGE, POLICIES, TASK, VERSIONS, write_digits
from tests.worlds.gateway.process import running
from tests.worlds.stage import ACTORS, Stage, say, staged

PICTURES = ROOT / "build" / "typescript"
OVER_WITHIN_S = 120
SIZES = list(WIDTHS)


def main() -> None:
    """Build the page, train in it, look at it."""
    for words in (["ci", "--no-audit", "--no-fund", "--silent"], ["run", "example", "--silent"]):
        subprocess.run(["npm", *words], cwd=PACKAGE, check=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-browser-")))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        kafka = KafkaSettings(**handle.connection, topic_prefix=f"tab-{uuid.uuid4().hex[:8]}")
        (folder / "stage").mkdir()
        _train(stack.enter_context(staged(kafka, folder / "stage")), folder / "stage")


def _train(stage: Stage, folder: Path) -> None:
    (folder / "policy.toml").write_text(POLICIES[TASK])
    made = stage.fedlog("task", "create", str(folder / "policy.toml"), "--name", TASK)
    assert made.exit_code == 0, made.stderr
    stage.start(*ACTORS)
    stage.until_version(TASK, 0)
    operator = stage.key.public_key.hex()
    with ExitStack() as stack:
        site = stack.enter_context(_served(PACKAGE / "build" / "browser"))
        options = [*stage.options, "--operator-public-key", operator]
        gateway = stack.enter_context(running(options, folder, words=["--allow-origin", site]))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM)
        stack.callback(browser.close)
        faults: list[str] = []
        query = f"gateway={gateway.url}&operator={operator}&task={TASK}&devices={DEVICES}"
        pages = [
            _open(browser, f"{site}/index.html?{query}&device={place}", size=SIZES[place % 2], faults=faults)
            for place in range(DEVICES)
        ]
        stage.until_version(TASK, VERSIONS)
        for page in pages:
            page.get_by_text("The task is over").wait_for(timeout=1000 * OVER_WITHIN_S)
        admitted = sum(int(page.locator("#admitted").inner_text()) for page in pages)
        for page, size in zip(pages, SIZES, strict=False):
            faults += _look(page, picture=size)
    stage.until_lawful(home_of(TASK))
    replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)["replay"]
    say(json.dumps({"tabs": DEVICES, "admitted": admitted, "replay": replayed, "faults": faults}))
    assert (replayed, faults) == ("identical", [])


def _open(browser: Browser, url: str, *, size: str, faults: list[str]) -> Page:
    width, height = WIDTHS[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.goto(url)
    return page


def _look(page: Page, *, picture: str) -> Iterator[str]:
    """What axe finds in both schemes, and whether the page is wider than the screen; with pictures of a name."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.add_script_tag(path=AXE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.screenshot(path=PICTURES / f"{picture}-{scheme}.png", full_page=True)
        found: dict[str, Any] = page.evaluate("axe.run()")
        yield from (f"{scheme}: {violation['id']}: {violation['help']}" for violation in found["violations"])
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        yield "wider than the screen"


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The page and its digits, from an origin that is not the gateway's."""
    write_digits(folder / "digits.json")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    """Tells nobody who asked for what."""

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Nothing."""


if __name__ == "__main__":
    main()
