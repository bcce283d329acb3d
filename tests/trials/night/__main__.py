"""`make night`: six faults planted in a running deployment; each has to be found within a minute, with its remedy.

Found by `fedlog doctor`, by an alert of ops/alerts.yml in a real Prometheus that scrapes the real processes, and on the
page "System"; and gone again once the remedy was carried out. Adds to docs/results/night.jsonl, writes docs/night.md,
and exits with 1 where one of the three has not seen a fault in time.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ops.console import say
from tests.trials.alerts.programs import find_program
from tests.trials.night import page
from tests.trials.night.faults import Fault, list_faults
from tests.trials.night.watchers import Page, Prometheus, ask_doctor
from tests.trials.results import add_row, commit
from tests.worlds.deployment.product import WORKERS, Product

WITHIN_S = 60.0
# Longer, to see when one came that was late.
PATIENCE_S = 150.0
CALM_WITHIN_S = 400.0
STARTED_WITHIN_S = 300.0
LOOK_EVERY_S = 1.0


def main() -> int:
    """Plant, watch and mend each of them."""
    parser = argparse.ArgumentParser(prog="make night", description=__doc__)
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    parser.add_argument("--unrecorded", action="store_true", help="add no row and write no page")
    asked = parser.parse_args()
    commit()  # the one that runs, whatever is checked out at the end
    scratch = Path(tempfile.mkdtemp(prefix="fedlog-night-"))
    try:
        rows = _play(scratch, only=asked.only)
    finally:
        if asked.keep:
            say(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    if not asked.unrecorded:
        for row in rows:
            add_row("night", row)
        page.write()
    return any(not row["found"] for row in rows)


def _play(scratch: Path, *, only: str) -> list[dict[str, Any]]:
    program = find_program("prometheus", package="prometheus")
    if program is None:
        say("Without a Prometheus no alert is tried: apt install prometheus")
    with ExitStack() as stack:
        product = stack.enter_context(Product(scratch / "f", has_gateway=False))
        product.start()
        _start_gateway(product)
        prometheus = Prometheus(program, scratch / "prometheus") if program else None
        if prometheus is not None:
            stack.enter_context(prometheus.run())
        product.until_version(1, timeout_s=STARTED_WITHIN_S)
        night = Night(product, prometheus)
        faults = list_faults(product)
        return [night.try_fault(fault) for fault in faults if only in fault.name]


def _start_gateway(product: Product) -> None:
    """A gateway with a certificate of our own authority, which devices would have to believe."""
    product.ask("ca", "create")
    product.ask("ca", "issue", "gateway", "--host", "127.0.0.1")
    issued = product.settings.folder / "ca" / "issued"
    tls = ("--tls-certificate", str(issued / "gateway.pem"), "--tls-key", str(issued / "gateway.key"))
    product.begin("gateway", "gateway", "--port", str(product.ports["gateway"]), *tls)


class Night:
    """One deployment, and those who watch it."""

    def __init__(self, product: Product, prometheus: Prometheus | None) -> None:
        self._product, self._prometheus, self._page = product, prometheus, Page(product)

    def try_fault(self, fault: Fault) -> dict[str, Any]:
        """Plant one, see who notices after how many seconds, mend it, and wait until all is well again."""
        calm_s = self._wait_until_calm(fault)
        say(f"{fault.name}: planted, after {calm_s:.0f} s of calm")
        seen: dict[str, float] = {}
        begun_s = time.monotonic()
        fault.plant()
        while len(seen) < len(self._watchers) and time.monotonic() - begun_s < PATIENCE_S:
            for name in self._watchers - seen.keys():
                if self._sees(name, fault):
                    seen[name] = round(time.monotonic() - begun_s, 1)
                    say(f"  {name} after {seen[name]:g} s")
            time.sleep(LOOK_EVERY_S)
        told = next((each for each in ask_doctor(self._product) if each["check"] == fault.check), {})
        fault.mend()
        mended_s = self._wait_until_calm(fault)
        say(f"  mended, and nothing is wrong {mended_s:.0f} s later")
        found = all(seen.get(name, PATIENCE_S) <= WITHIN_S for name in self._watchers)
        return {
            "fault": fault.name,
            "found": found,
            "seconds": {name: seen.get(name) for name in sorted(self._watchers)},
            "prometheus": self._prometheus is not None,
            "what": self._hide(told.get("what", "")),
            "remedy": self._hide(told.get("remedy", "")),
            "mended_s": round(mended_s, 1),
        }

    @property
    def _watchers(self) -> set[str]:
        return {"doctor", "page"} | ({"alert"} if self._prometheus else set())

    def _hide(self, text: str) -> str:
        """Without the folder of this machine, which is nobody's business."""
        return text.replace(str(self._product.settings.folder), "FOLDER")

    def _sees(self, name: str, fault: Fault) -> bool:
        self._aim()
        if name == "doctor":
            return any(each["check"] == fault.check and fault.remedy in each["remedy"] for each in self._ask_errors())
        if name == "page":
            return fault.remedy in self._page.read()
        firing = self._prometheus.list_firing() if self._prometheus else []
        return any(wanted.items() <= labels.items() for wanted in fault.alerts for labels in firing)

    def _ask_errors(self) -> list[dict[str, str]]:
        return [each for each in ask_doctor(self._product) if each["severity"] == "error"]

    def _wait_until_calm(self, fault: Fault) -> float:
        """Seconds until nobody sees anything. Raises TimeoutError with what is seen."""
        begun_s = time.monotonic()
        while True:
            list(self._product.tend())
            self._aim()
            errors = self._ask_errors()
            firing = self._prometheus.list_firing() if self._prometheus else []
            if not errors and not firing and fault.remedy not in self._page.read():
                return time.monotonic() - begun_s
            if time.monotonic() - begun_s > CALM_WITHIN_S:
                raise TimeoutError(f"after {fault.name} still: {errors} {firing}")
            time.sleep(LOOK_EVERY_S)

    def _aim(self) -> None:
        if self._prometheus is None:
            return
        ports = {**self._product.find_metrics_ports(), "history": self._product.ports["history"]}
        self._prometheus.aim({name: ports[name] for name in (*WORKERS, "gateway", "serve", "history") if name in ports})


if __name__ == "__main__":
    sys.exit(main())
