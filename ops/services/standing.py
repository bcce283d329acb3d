"""How far a subscriber has come, in a file that a crash leaves whole: for `ops.services.subscriber`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from client_agent.files import write_durably
from client_agent.locks import Lock
from schemas.announcements.reading import Told
from schemas.errors import EXIT_USAGE, FedlogError

JOURNALS_MAX = 16


class StandingUnfit(FedlogError):
    """A file is not the position of this subscriber."""

    exit_code = EXIT_USAGE
    code = "standing_unfit"


class Purpose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a position was kept for: with another operator, log, task or choice of kinds it means something else."""

    operator: str
    topic: str
    partitions: int
    task: str
    kinds: tuple[str, ...]


class Standing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """By partition the next offset, and by journal what was told last. `deployment` in hex; empty: not known yet."""

    # First, so that whoever opens the file sees what it is.
    purpose: Purpose
    deployment: str = ""
    positions: dict[Annotated[str, msgspec.Meta(pattern=r"^\d{1,4}\Z")], Annotated[int, msgspec.Meta(ge=0)]] = {}
    told: dict[str, dict[str, Told]] = {}

    def find_told(self, partition: int, journal: str) -> Told:
        """What was told last of this journal."""
        return self.told.setdefault(str(partition), {}).setdefault(journal, Told())


class StandingFile:
    """The file, locked for this process; without a path nothing is kept. Raises StandingUnfit, FolderInUse."""

    def __init__(self, path: Path | None, purpose: Purpose) -> None:
        self._path = path
        self._lock: Lock | None = None
        self.standing = Standing(purpose=purpose)
        self.is_new = True
        if path is None:
            return
        # Two that moved one position on would each leave out what the other was told.
        self._lock = Lock(path.with_name(path.name + ".lock"))
        try:
            if path.exists():
                self.standing, self.is_new = _read(path, purpose), False
        except FedlogError:
            self._lock.release()
            raise

    def save(self) -> None:
        """It is on the disk when this returns."""
        # Synced: a machine that dies right after a command's work must not have it done twice for nothing.
        if self._path is not None:
            write_durably(self._path, msgspec.json.format(msgspec.json.encode(self.standing)) + b"\n")

    def close(self) -> None:
        """Let another process go on from here."""
        if self._lock is not None:
            self._lock.release()


def _read(path: Path, purpose: Purpose) -> Standing:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Standing)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StandingUnfit(f"{path} is no position of a subscriber ({error}); name another file.") from error
    # With another choice the position would leave out what was passed over under the first.
    kept, asked = msgspec.to_builtins(found.purpose), msgspec.to_builtins(purpose)
    if differing := [name for name in kept if kept[name] != asked[name]]:
        told = "; ".join(f"{name} {kept[name] or 'all'!r}, not {asked[name] or 'all'!r}" for name in differing)
        raise StandingUnfit(f"{path} was kept for {told}: name another file, or repeat the command that made it.")
    return found
