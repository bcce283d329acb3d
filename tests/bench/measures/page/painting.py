"""A real browser that looks at one page, driven by lines on its input; called by `tests.bench.rows.page`.

painting URL TOKEN

look     the page in a fresh profile: first paint since the navigation began, when the view stood there, bytes and
         number of its requests
stay     the same page, kept open: from here on it notes when which version came to stand on it
tell     what it has noted, and whether it was loaded anew
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.bench.measures.page import CHROMIUM

PAINTED = "performance.getEntriesByName('first-contentful-paint').map(one => one.startTime)[0]"
# The largest of what is painted, which is of the view itself: by then a reader has what was asked for.
FILLED = """
new Promise((tell) => new PerformanceObserver((list) => tell(list.getEntries().at(-1).startTime))
  .observe({type: 'largest-contentful-paint', buffered: true}))
"""
WEIGHED = """
(() => { const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter(one => !one.name.includes('/live/'));
  return [all.reduce((sum, one) => sum + one.encodedBodySize, 0), all.length]; })()
"""
# The version is the first figure of the page; what is noted is the moment at which it stands there.
NOTING = """
(() => { window.noted = []; window.origin = performance.timeOrigin; let last = '';
  const note = () => { const text = document.querySelector('#lead .figure .value').textContent.replace(/\\D/g, '');
    if (text && text !== last) { last = text; window.noted.push([Date.now(), Number(text)]); } };
  note(); new MutationObserver(note).observe(document.body, {childList: true, subtree: true, characterData: true}); })()
"""
TOLD = "({noted: window.noted || [], is_same: window.origin === performance.timeOrigin && !!window.noted})"


def open_page(browser: Browser, url: str, token: str) -> Page:
    """The page of somebody who is logged in and was never here."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    address = "/".join(url.split("/")[:3])
    context.add_cookies([{"name": "fedlog_session", "value": token, "url": address}])
    page = context.new_page()
    page.goto(url, wait_until="load")
    return page


def look(browser: Browser, url: str, token: str) -> dict[str, Any]:
    """What one visit costs."""
    page = open_page(browser, url, token)
    give_up_s = time.monotonic() + 20
    # The browser tells of a paint a little after it.
    while (paint_ms := page.evaluate(PAINTED)) is None and time.monotonic() < give_up_s:
        page.wait_for_timeout(20)
    weight_bytes, requests = page.evaluate(WEIGHED)
    filled_ms = page.evaluate(FILLED)
    page.context.close()
    return {"paint_ms": paint_ms, "filled_ms": filled_ms, "weight_kb": weight_bytes / 1000, "requests": requests}


def main() -> None:
    """One answer a line."""
    url, token = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        kept: Page | None = None
        for line in sys.stdin:
            told: Any = None
            match line.strip():
                case "look":
                    told = look(browser, url, token)
                case "stay":
                    kept = open_page(browser, url, token)
                    kept.evaluate(NOTING)
                case "tell" if kept is not None:
                    told = kept.evaluate(TOLD)
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
        browser.close()


if __name__ == "__main__":
    main()
