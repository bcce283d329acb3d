"""The same by virtual time, without a Kafka: which attacks are found, how soon, and who else is set apart.

python -m tests.trials.quarantine.virtual [--only fast] [--settings]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from actors import keys
from ops.audit.replay import Anchor, Audit
from ops.processes.running import RunOptions
from ops.settings import resolve
from ops.virtual.fleet import derive_identity
from ops.virtual.running import VirtualRun
from streams.exported import ExportedLog
from tests.judges.logbook import read
from tests.trials.quarantine.cells import HABITS, Cell, list_cells, list_settings
from tests.trials.quarantine.judging import judge
from tests.trials.results import add_row, rows
from tests.trials.robustness import page
from tests.trials.robustness.cells import DEVICES, KIND
from tests.worlds.stage import say


def main() -> None:
    """Run each cell of tier plain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--settings", action="store_true", help="other settings of the table, with several seeds")
    asked = parser.parse_args()
    for cell in list_settings(asked.only) if asked.settings else list_cells(asked.only):
        row = run(cell)
        if asked.settings:
            row = {"setting": cell.setting, "seed": cell.seed, **row}
        add_row("quarantine", row)
        say(json.dumps(row))
    page.write(rows(KIND))


def run(cell: Cell) -> dict[str, Any]:
    """One deterministic run; the row that it leaves."""
    with tempfile.TemporaryDirectory(prefix="fedlog-quarantine-") as scratch:
        folder = Path(scratch)
        (folder / "habits.toml").write_text("".join(f"{name} = {value}\n" for name, value in HABITS.items()))
        options = RunOptions(
            policy=replace(cell.policy, selection=replace(cell.policy.selection, lease_s=1.0)),
            name="watched",
            devices=DEVICES,
            cwd=folder,
            simulate=folder / "habits.toml",
            attack=cell.hostility,
        )
        virtual = VirtualRun(resolve({"folder": folder / "state"}), options)
        with virtual:
            *_, state = virtual.follow()
        log, key = ExportedLog(virtual.log_folder or folder), keys.load(folder / "state" / "operator.key")
        # Their keys follow from the seed, as everything in such a run.
        work: Any = SimpleNamespace(seeds=cell.policy.drawn_by)
        devices = [derive_identity(work, place, name=str(place)).device for place in range(DEVICES)]
        groups = {name: {devices[place] for place in places} for name, places in cell.groups.items()}
        found = judge(read(log, 0, operator=key.public_key), groups, lifted="")
        audit = Audit(log, 0, anchor=Anchor(operator=key.public_key), full=True).run()
        curve = state.curve()
    return {
        "attack": cell.attack,
        "tier": "virtual",
        "devices": DEVICES,
        **found,
        "accuracy": round(float(sum(curve[-3:]) / 3), 4),
        "kills": 0,
        "replay": audit.verdict,
        "faults": [],
    }


if __name__ == "__main__":
    main()
