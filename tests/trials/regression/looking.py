"""Looks at a rollback on fedlog's own page, in Debian's Chromium."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.trials.page.browsing import CHROMIUM

WITHIN_MS = 60_000


def look(url: str, token: str, *, paths: dict[str, str], folder: Path) -> dict[str, str]:
    """What each page says, by its name, as somebody reads it who is logged in; pictures go into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    said: dict[str, str] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        context.add_cookies([{"name": "fedlog_session", "value": token, "url": url}])
        page = context.new_page()
        for name, path in paths.items():
            page.goto(url + path)
            page.locator("#lead").wait_for(timeout=WITHIN_MS)
            page.wait_for_timeout(500)
            said[name] = page.locator("main").inner_text()
            page.screenshot(path=folder / f"{name}.png", full_page=True)
        browser.close()
    return said
