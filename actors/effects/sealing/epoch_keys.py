"""The private keys of epochs: files in one folder, which aggregators and shard workers share, and no topic.

A key is random and derived from nothing, so that what is deleted here is gone. Its file is there before the journal
names its epoch, and gone before the journal says that it is destroyed: a death in between does either once more.

Beside the keys stands, for each task, the number of the newest one that was made there. It stays when they go, and so
a folder from which a key has gone is told from one in which it never was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from msgspec import UNSET

from actors.disk import sync_folder
from actors.keys import RoleKey
from schemas.errors import EXIT_CONFIGURATION, FedlogError
from schemas.events import TaskCreated
from schemas.sealing.envelopes import SECRET_BYTES, EpochSecret


class EpochKeysUnusable(FedlogError):
    """The folder of epoch keys cannot be used; the message names it and says what to do."""

    exit_code = EXIT_CONFIGURATION
    code = "epoch_keys_unusable"


class EpochKeyMissing(FedlogError):
    """What is sealed under this epoch cannot be opened: its private key is not in the folder of epoch keys."""

    code = "epoch_key_missing"


class EpochKeys:
    """The keys in `folder`, which is made when the first is; None: this process keeps none, and finds none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[Path, EpochSecret] = {}

    @classmethod
    def open_for(cls, key: RoleKey) -> EpochKeys:
        """Those of a role, where its settings have told it of a folder."""
        return cls(None if key.epoch_keys is UNSET else Path(key.epoch_keys))

    def make(self, created: TaskCreated, epoch: int) -> EpochSecret:
        """The key of an epoch: a new one, or the one that an earlier life of the aggregator has made for it.

        Raises EpochKeysUnusable.
        """
        folder = self._open_folder()
        path = folder / _name(created, epoch)
        _note_newest(folder / _name_home(created), epoch)
        with contextlib.suppress(FileExistsError):
            _write_once(path, secrets.token_bytes(SECRET_BYTES))
        # Read back and not kept: of two that make it at once one has written the file, and both go by that.
        return self.require(created, epoch)

    def require(self, created: TaskCreated, epoch: int) -> EpochSecret:
        """The key of an epoch. Raises EpochKeyMissing."""
        found = self.find(created, epoch)
        if found is None:
            raise EpochKeyMissing(f"the key of epoch {epoch} of task {created.task!r} is not in {self._folder}")
        return found

    def find(self, created: TaskCreated, epoch: int) -> EpochSecret | None:
        """The key of an epoch; None where there is none. Raises EpochKeysUnusable."""
        if self._folder is None:
            return None
        path = self._folder / _name(created, epoch)
        if path not in self._known:
            try:
                self._known[path] = EpochSecret(path.read_bytes())
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                # Without the cause: nothing of what is in this file may reach a log.
                raise EpochKeysUnusable(f"{path} cannot be read as the key of an epoch") from error
        return self._known[path]

    def require_home(self, created: TaskCreated, epoch: int) -> None:
        """Nothing where the key of this epoch is in this folder, or has been. Raises EpochKeysUnusable for any other.

        That a key is not in a folder in which it never was says nothing about the key.
        """
        # By the disk: what is in memory says nothing about a folder that is not there any more. None is made here.
        home = None if self._folder is None else self._folder / _name_home(created)
        if home is None or not (home.with_name(_name(created, epoch)).exists() or _read_newest(home) >= epoch):
            raise EpochKeysUnusable(
                f"{self._folder} never held the key of epoch {epoch} of task {created.task!r}, under which updates are"
                " sealed: name the folder that does with --epoch-keys. If that one is gone for good, write"
                f" {epoch} into {home}: then the rounds that need its keys are given up"
            )

    def destroy(self, created: TaskCreated, epoch: int) -> None:
        """Delete the key of an epoch, wherever in a deletion somebody has died before. Raises EpochKeysUnusable."""
        if self._folder is None:
            return
        path = self._folder / _name(created, epoch)
        self._known.pop(path, None)
        try:
            # With what a death has left of making it.
            for file in (path, *path.parent.glob(f"{path.name}.*.new")):
                file.unlink(missing_ok=True)
            if path.parent.exists():
                sync_folder(path.parent)
        except OSError as error:
            raise EpochKeysUnusable(f"{path} cannot be deleted: {error.strerror}") from error

    def _open_folder(self) -> Path:
        folder = self._folder
        if folder is None:
            raise EpochKeysUnusable(
                "a sealed task needs a folder for the keys of its epochs: name it with --epoch-keys"
            )
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = folder.stat().st_mode & 0o777
        except OSError as error:
            raise EpochKeysUnusable(f"{folder}: {error.strerror}; name another with --epoch-keys") from error
        if mode & 0o077:
            raise EpochKeysUnusable(f"{folder}: mode {mode:04o} lets others in; run `chmod 700 {folder}`")
        return folder


def _name(created: TaskCreated, epoch: int) -> str:
    # A folder may serve several deployments, and tasks of one name in them.
    return f"{created.deployment.hex()}.{created.task}.{epoch}.key"


def _name_home(created: TaskCreated) -> str:
    return f"{created.deployment.hex()}.{created.task}.newest"


def _read_newest(path: Path) -> int:
    """The newest epoch whose key was made beside this file; -1 where none was. Raises EpochKeysUnusable."""
    try:
        return int(path.read_text() or -1)
    except FileNotFoundError:
        return -1
    except (OSError, ValueError) as error:
        raise EpochKeysUnusable(f"{path} cannot be read as the number of an epoch") from error


def _note_newest(path: Path, epoch: int) -> None:
    """Write down that the key of this epoch is made here, on the disk; of two at once the newer one stays."""
    if _read_newest(path) >= epoch:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if int(file.read() or -1) < epoch:
            # As many bytes each time, in one piece: there is no moment with half of a number.
            file.seek(0)
            file.write(b"%020d\n" % epoch)
            file.flush()
            os.fsync(descriptor)
    sync_folder(path.parent)


def _write_once(path: Path, secret: bytes) -> None:
    """Write a file that was not there, whole or not at all, and on the disk. Raises FileExistsError."""
    if path.exists():
        raise FileExistsError
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        # A link fails where the name is taken, and a rename would put another key in the place of one in use.
        os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
    sync_folder(path.parent)
