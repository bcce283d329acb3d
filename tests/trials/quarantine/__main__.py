"""`make quarantine`: hostile fleets on a real Kafka, real workers that are killed, and who is let in no more.

Each cell is a task of digits on 40 devices, a tenth of them hostile, six of them with mirrored pictures. Selector and
aggregator are killed by turns. Once every attacker is out one of them is let in again. At the end the law check has to
find nothing, no lease may be theirs, and a full replay has to be identical. Adds a row a cell to docs/results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from client_agent.identity import FILE, open_identity
from ops.processes import broker
from schemas.events import DeviceQuarantined
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import Logbook, read
from tests.places import home_of
from tests.trials.quarantine.cells import DATA, HABITS, Cell, list_real_cells
from tests.trials.quarantine.judging import judge
from tests.trials.results import add_row, rows
from tests.trials.robustness import page
from tests.trials.robustness.cells import DEVICES, KIND
from tests.worlds.stage import Stage, console_beside, say, staged

WITHIN_S, SETTLED_WITHIN_S = 900.0, 60.0
# A kill at each of these versions, of these by turns.
KILL_EVERY, TURNS = 4, (("aggregator",), ("selector",), ("aggregator", "selector"))


def main() -> None:
    """Play each cell, and judge it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as on Ctrl-C, brokers and workers end first
    parser = argparse.ArgumentParser(prog="make quarantine", description=__doc__)
    parser.add_argument("--only", default="", help="cells with this in their name: attack-tier")
    cells = list_real_cells(parser.parse_args().only)
    faults: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlog-quarantine-")))
        handle = stack.enter_context(broker.run_embedded(folder / "broker"))
        for cell in cells:
            kafka = KafkaSettings(**handle.connection, topic_prefix=f"{cell.task}-{uuid.uuid4().hex[:8]}")
            own = folder / cell.task
            own.mkdir()
            with staged(kafka, own) as stage:
                row = play(stage, cell, folder=own)
            add_row("quarantine", row)
            say(json.dumps(row))
            faults += [f"{cell.task}: {fault}" for fault in row["faults"]]
    page.write(rows(KIND))
    sys.exit("\n".join(faults) or 0)


def play(stage: Stage, cell: Cell, *, folder: Path) -> dict[str, Any]:
    """One task from its creation to its last version; the row that it leaves."""
    began_s, task = time.monotonic(), cell.task
    (folder / "policy.toml").write_text(cell.text)
    made = stage.fedlog("--allow", DATA, "task", "create", str(folder / "policy.toml"), "--name", task)
    assert made.exit_code == 0, made.output
    stage.start("selector", "aggregator")
    stage.until_version(task, 0, timeout_s=WITHIN_S)
    kills, lifted, struck = 0, "", 0
    with fleet(stage, cell, folder=folder) as child:
        names = {index: f"sim0-{index:05d}" for index in range(DEVICES)}
        keys = [folder / "fleet" / name / FILE for name in names.values()]
        stage.until(lambda: all(key.exists() for key in keys), "keys of all devices", timeout_s=WITHIN_S)
        devices = {index: open_identity(folder / "fleet" / name, name).device for index, name in names.items()}
        hostile = {devices[index] for index in cell.groups["hostile"]}
        give_up_s = time.monotonic() + WITHIN_S
        while (version := stage.version(task)) < cell.versions:
            assert time.monotonic() < give_up_s, f"at version {version}\n{stage.tails()}"
            # It ends by itself with the last version, which is then there to be read.
            assert child.poll() is None or stage.version(task) >= cell.versions, "the fleet has ended"
            if version >= (struck + 1) * KILL_EVERY:
                kills += kill(stage, TURNS[struck % len(TURNS)])
                struck += 1
            if hostile and not lifted and hostile <= {*list_out(stage, task)}:
                lifted = min(hostile)
                said = stage.fedlog("task", "lift", task, "--device", lifted)
                assert said.exit_code == 0, said.output
    laws = judge_laws(stage, task, folder=folder)
    book = read_book(stage, task)
    stage.stop()
    replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
    groups = {name: {devices[index] for index in places} for name, places in cell.groups.items()}
    return {
        "attack": cell.attack,
        "tier": cell.tier,
        "devices": DEVICES,
        **judge(book, groups, lifted=lifted),
        "kills": kills,
        "claims": book.rounds.claims + book.selections.claims,
        "replay": replayed["replay"],
        "seconds": round(time.monotonic() - began_s, 1),
        "faults": [*laws, *([] if replayed["replay"].startswith("identical") else [replayed["replay"]])],
    }


def judge_laws(stage: Stage, task: str, *, folder: Path) -> list[str]:
    """What the law check finds once everything has its outcome: the leases of the last devices run out meanwhile."""
    give_up_s = time.monotonic() + SETTLED_WITHIN_S
    while faults := stage.faults(home_of(task), sums=folder / "epoch-keys"):
        if time.monotonic() > give_up_s:
            break
        time.sleep(1.0)
    return faults


def kill(stage: Stage, actors: tuple[str, ...]) -> int:
    """How many processes of these actors died at once; their supervisors start others."""
    done = 0
    for worker in stage.workers:
        child = worker.child() if worker.actor in actors else None
        with contextlib.suppress(psutil.NoSuchProcess):
            if child is not None:
                child.kill()
                done += 1
    return done


def list_out(stage: Stage, task: str) -> list[str]:
    """Who was quarantined, in order."""
    return [event.device for event in read_book(stage, task).rounds.events(DeviceQuarantined)]


def read_book(stage: Stage, task: str) -> Logbook:
    """What stands in the task's partition."""
    return read(stage.log, home_of(task), operator=stage.key.public_key, deployment=stage.deployment)


@contextmanager
def fleet(stage: Stage, cell: Cell, *, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The devices, some of them hostile, as `fedlog fleet` plays them."""
    habits = folder / "habits.toml"
    habits.write_text("".join(f"{name} = {value}\n" for name, value in HABITS.items()))
    words = ["--allow", DATA, "fleet", "--task", cell.task, "--devices", str(DEVICES), "--processes", "1"]
    words += ["--simulate", str(habits), "--state", str(folder / "fleet")]
    words += ["--attack", str(cell.hostility)] if cell.hostility else []
    try:
        with console_beside([*stage.options, *words], log=folder / "fleet.log") as child:
            yield child
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(folder / 'fleet.log').read_text()[-3000:]}") from error


if __name__ == "__main__":
    main()
