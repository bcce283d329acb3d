"""Looks at a registered model on MLflow's own page, in Debian's Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
WITHIN_MS = 60_000


def look(url: str, task: str, *, folder: Path) -> dict[str, Any]:
    """What of ours the pages show: of the model, and of the version that is its champion; pictures go into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/#/models/{task}", wait_until="domcontentloaded")
        page.get_by_text("champion").first.wait_for(timeout=WITHIN_MS)
        shown = {"model": [word for word in ("champion", task, "fedlog.id") if word in page.content()]}
        page.screenshot(path=folder / "mlflow-model.png", full_page=True)
        page.goto(f"{url}/#/models/{task}/versions/1", wait_until="domcontentloaded")
        page.get_by_text("fedlog.sha256").first.wait_for(timeout=WITHIN_MS)
        shown["version"] = [word for word in ("fedlog.sha256", "fedlog.members_root") if word in page.content()]
        page.screenshot(path=folder / "mlflow-version.png", full_page=True)
        browser.close()
    return shown
