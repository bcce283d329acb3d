"""Looks at every view of the page in Debian's Chromium, and takes the pictures of the documents.

    make page

Needs `apt-get install chromium` and npm; Playwright and axe-core lie under build/page.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from ops.console import say
from tests.gallery import MAIN
from tests.serving import opened_site
from tests.trials.page.painted import Painted, list_views, open_gallery
from tests.trials.page.pictures import take

ROOT = Path(__file__).parents[3]
AXE = ROOT / "build" / "page" / "node_modules" / "axe-core" / "axe.min.js"
# What stands beside one another at the top, and would lie over one another where it does not fit.
COVERED = """() => {
  const boxes = [...document.querySelectorAll(".slider > *")].map(each => {
    const text = document.createRange();
    text.selectNodeContents(each);
    return [each.className || each.id || each.tagName, text.getBoundingClientRect()];
  });
  return boxes.flatMap(([one, a], at) => boxes.slice(at + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => `${one} and ${other}`));
}"""
SETTLED = """Promise.all(document.getAnimations()
    .filter(each => each.effect.getComputedTiming().iterations !== Infinity).map(each => each.finished.catch(() => 0)))
    .then(() => true)"""
PICTURES = ROOT / "docs" / "page"
CHROMIUM = "/usr/bin/chromium"
SHOWN = "document.querySelector('#reach').classList.contains('shown')"
OTHERS = "document.querySelectorAll('#buffer .cell:not(.vacant)').length != {}"
WIDTHS = {"wide": (1280, 860), "phone": (360, 780)}


class Look:
    """What was found wrong so far; each trial adds to it."""

    def __init__(self, browser: Browser, painted: Painted) -> None:
        self.browser, self.painted = browser, painted
        self.faults: list[str] = []

    @contextmanager
    def open(self, size: str = "wide", scheme: str = "light", *, now_ms: int | None = None) -> Iterator[Page]:
        """A page of somebody who is logged in; whatever its console says is a fault. `now_ms`: what its clock shows."""
        width, height = WIDTHS[size]
        context = self.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})  # type: ignore[arg-type]
        context.add_cookies([{"name": "fedlog_session", "value": self.painted.token, "url": self.painted.url}])
        page = context.new_page()
        if now_ms is not None:
            page.clock.set_fixed_time(datetime.fromtimestamp(now_ms / 1000, UTC))
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("request", self._check_host)
        yield page
        context.close()

    def require(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.faults.append(what)

    def _hear(self, kind: str, text: str) -> None:
        # A server that was ended on purpose is told by the browser itself.
        if (
            kind in {"error", "warning"}
            and "ERR_CONNECTION" not in text
            and "ERR_INCOMPLETE" not in text
            and "sse:error" not in text
        ):
            self.faults.append(f"console: {text}")

    def _check_host(self, request: Any) -> None:
        self.require(request.url.startswith((self.painted.url, "data:")), f"another host: {request.url}")


def wait(page: Page, expression: str, *, within_s: float = 15.0) -> None:
    """Wait until it is true. Raises TimeoutError."""
    # Playwright's own way evaluates text in the page, which its rules refuse.
    give_up_s = time.monotonic() + within_s
    while not page.evaluate(expression):
        if time.monotonic() > give_up_s:
            raise TimeoutError(expression)
        page.wait_for_timeout(50)


def look_at_views(look: Look) -> None:
    """Every view in both sizes and schemes: no violation of accessibility, nothing wider than the screen, a picture."""
    axe = AXE.read_text(encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    # A moment after the newest record, as everybody sees it whose federation goes on.
    now_ms = look.painted.gallery.now_ms + 2_000
    for size, scheme in (("wide", "light"), ("wide", "dark"), ("phone", "light"), ("phone", "dark")):
        with look.open(size, scheme, now_ms=now_ms) as page:
            for name, address in list_views(look.painted).items():
                page.goto(look.painted.url + address)
                page.wait_for_timeout(300)
                # What is still landing is half transparent.
                page.evaluate(SETTLED)
                where = f"{name}, {size}, {scheme}"
                extent = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                look.require(extent[0] <= extent[1], f"{where}: wider than its screen, {extent}")
                covered = page.evaluate(COVERED)
                look.require(not covered, f"{where}: beside the slider one lies over another: {covered}")
                # By the protocol and not as an element, which the page's own rules would refuse.
                page.evaluate(axe)
                found = page.evaluate("axe.run({resultTypes: ['violations']})")
                for each in found["violations"]:
                    nodes = [node["html"][:90] for node in each["nodes"][:2]]
                    look.faults.append(f"{where}: {each['id']} ({each['help']}) {nodes}")
                if (size, scheme) == ("wide", "light") or (name in {"task", "tasks"} and scheme == "dark"):
                    take(page, PICTURES / f"{name}-{size}-{scheme}.png", is_whole=size == "wide")


def watch_it_live(look: Look) -> None:
    """What is new comes by itself, what was opened stays open, and the server may go and come back."""
    with look.open() as page:
        page.goto(f"{look.painted.url}/tasks/{MAIN}")
        page.wait_for_timeout(1500)
        loaded = page.evaluate("performance.timeOrigin")
        page.locator("#score-0 summary").click()
        page.locator("#score-0 summary").focus()
        heights = page.evaluate("document.querySelector('#buffer').offsetHeight")
        filled = page.locator("#buffer .cell:not(.vacant)").count()
        began_s = time.monotonic()
        look.painted.go_on(3)
        wait(page, OTHERS.format(filled))
        say(f"an update is on the page {time.monotonic() - began_s:.2f} s after its federation went on")
        look.require(page.locator("#score-0 details").get_attribute("open") is not None, "what was open was closed")
        focus = "document.activeElement.closest('section')?.id"
        look.require(page.evaluate(focus) == "score-0", "the focus was lost")
        look.require(page.evaluate("document.querySelector('#buffer').offsetHeight") == heights, "the layout jumped")
        _cut_off(look, page)
        _take_away(look, page)
        look.require(page.evaluate("performance.timeOrigin") == loaded, "the page was loaded anew")


def _cut_off(look: Look, page: Page) -> None:
    """The log is out of reach, and the server is not: the page names what it is."""
    look.painted.is_cut = True
    began_s = time.monotonic()
    wait(page, "document.querySelector('#reach').textContent.startsWith('The log is out of reach')")
    silent_s = time.monotonic() - began_s
    say(f"the page says that the log is away after {silent_s:.2f} s")
    look.require(silent_s <= 2, f"the page said nothing of the log for {silent_s:.1f} s")
    look.painted.is_cut = False
    wait(page, f"!{SHOWN}")


def _take_away(look: Look, page: Page) -> None:
    look.painted.stop()
    began_s = time.monotonic()
    wait(page, SHOWN)
    silent_s = time.monotonic() - began_s
    say(f"the page says that the server is away after {silent_s:.2f} s")
    look.require(silent_s <= 2, f"the page said nothing for {silent_s:.1f} s")
    look.painted.go_on(4)
    filled = page.locator("#buffer .cell:not(.vacant)").count()
    look.painted.start()
    wait(page, f"!{SHOWN}")
    wait(page, OTHERS.format(filled))


def use_the_keyboard(look: Look) -> None:
    """Everything by keys: views, the list of keys, the slider, back to now, a table, and a visible focus."""
    with look.open() as page:
        page.goto(f"{look.painted.url}/tasks/{MAIN}")
        page.wait_for_timeout(500)
        page.keyboard.press("?")
        look.require(page.locator("#keys").evaluate("dialog => dialog.open"), "? shows no keys")
        page.keyboard.press("Escape")
        with page.expect_navigation():
            page.keyboard.press("[")
        look.require("at=" in page.url, "[ does not go back")
        with page.expect_navigation():
            page.keyboard.press("n")
        look.require("at=" not in page.url, "n does not come back to now")
        page.keyboard.press("Tab")
        look.require(page.evaluate("document.activeElement.className") == "skip", "the first stop is no way past")
        page.locator("#score-0 summary").focus()
        page.keyboard.press("Enter")
        look.require(page.locator("#score-0 details").get_attribute("open") is not None, "Enter opens no table")
        with page.expect_navigation():
            page.keyboard.press("g")
            page.keyboard.press("e")
        look.require(page.url.endswith("/events"), "g e does not lead to events")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        look.require(outline == "solid", f"no visible focus: {outline}")


def recompute_a_version(look: Look) -> None:
    """The button asks for the verdict, which comes to where the button is, and stays there."""
    with look.open() as page:
        page.goto(f"{look.painted.url}/tasks/{MAIN}/versions/12")
        page.wait_for_timeout(500)
        page.locator("#recompute").click()
        page.wait_for_selector("#recomputed .verdict", timeout=20_000)
        look.require("Identical" in page.locator("#recomputed").inner_text(), page.locator("#recomputed").inner_text())


def main() -> int:
    """Every trial; 1 where something is wrong."""
    # Said at once, or somebody would wait for a gallery first.
    if not Path(CHROMIUM).is_file():
        say(f"{CHROMIUM} is missing: apt-get install chromium")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        gallery = open_gallery()
        with (
            opened_site(Path(folder), gallery.log) as (site, _),
            Painted(site, gallery=gallery) as painted,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            look = Look(browser, painted)
            for trial in (look_at_views, use_the_keyboard, recompute_a_version, watch_it_live):
                say(f"{trial.__name__.replace('_', ' ')} …")
                began_s = time.monotonic()
                try:
                    trial(look)
                except Exception as error:  # noqa: BLE001 - the other trials say more
                    traceback.print_exc()
                    look.faults.append(f"{trial.__name__}: {error}")
                say(f"  {time.monotonic() - began_s:.0f} s")
            browser.close()
    for fault in dict.fromkeys(look.faults):
        say(f"- {fault}")
    say(f"{len(look.faults)} faults" if look.faults else "Nothing is wrong.")
    return 1 if look.faults else 0


if __name__ == "__main__":
    sys.exit(main())
