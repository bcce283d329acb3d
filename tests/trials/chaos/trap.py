"""The trap: what a process does at a crash point. It tells each passage to a file, and is struck where the driver says.

The folder is shared with the driver: `passages` (a line for each), `armed` (the next blow: its number, point and
fault), `struck-N` (who was hit, and when; there is one for each blow, so that whoever starts again is spared) and
`answered-N` (the driver has done its part).
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ANSWER_WITHIN_S = 30.0
END_TXN_S = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """The next thing to happen, and where."""

    number: int
    point: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """What the process `name` carries with it; only a target is struck. Unfenced, no broker knows its writers."""

    folder: Path
    partition: int
    name: str
    is_target: bool = False
    is_fenced: bool = True

    # --- the process ------------------------------------------------------------------------------------------------

    def passed(self, point: str) -> None:
        """A step is done on the partition that is watched; of those who are never struck nobody asks."""
        if not self.is_target:
            return
        line = json.dumps({"at_s": time.time(), "name": self.name, "pid": os.getpid(), "point": point})
        passages = os.open(self.folder / "passages", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(passages, line.encode() + b"\n")
        os.close(passages)
        blow = self._awaiting(point)
        if blow is not None:
            self._take(blow)

    def soon(self, point: str) -> None:
        """Pass `point` within the next milliseconds, if somebody waits for that, while the caller goes on."""
        if self._awaiting(point) is not None:
            threading.Timer(random.uniform(0, END_TXN_S), self.passed, [point]).start()

    def _awaiting(self, point: str) -> Blow | None:
        if not self.is_target:
            return None
        told = _read(self.folder / "armed")
        return Blow(**told) if told.get("point") == point else None

    def _take(self, blow: Blow) -> None:
        told = self.folder / f"struck-{blow.number}.{os.getpid()}-{threading.get_ident()}"
        told.write_text(json.dumps({"at_s": time.time(), "name": self.name, "pid": os.getpid()}))
        try:
            os.link(told, self.folder / f"struck-{blow.number}")
        except FileExistsError:
            return
        finally:
            told.unlink()
        match blow.fault:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop" | "unfenced":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                give_up = time.monotonic() + ANSWER_WITHIN_S
                while not (self.folder / f"answered-{blow.number}").exists() and time.monotonic() < give_up:
                    time.sleep(0.005)

    # --- the driver -------------------------------------------------------------------------------------------------

    def arm(self, blow: Blow) -> None:
        """From now on the first process that passes the point is struck."""
        written = self.folder / "armed.new"
        written.write_text(json.dumps(asdict(blow)))
        written.replace(self.folder / "armed")

    def struck(self, blow: Blow) -> dict[str, Any]:
        """Who was hit, and when; empty before."""
        return _read(self.folder / f"struck-{blow.number}")

    def answer(self, blow: Blow) -> None:
        """The driver has done its part: whoever was hit goes on."""
        (self.folder / f"answered-{blow.number}").touch()

    def passages(self, point: str, *, actor: str, since_s: float = 0.0) -> list[dict[str, Any]]:
        """Who of `actor` has passed a point, oldest first."""
        path = self.folder / "passages"
        # The last line may be half there, on a machine that is busy.
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        # Asked ten times a second of what grows all the time: most lines are not worth their decoding.
        lines = (json.loads(line) for line in whole.splitlines() if f'"point": "{point}"' in line)
        return [line for line in lines if line["at_s"] >= since_s and line["name"].startswith(actor)]


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return told
