"""A helper's folder: its signing key, the private keys of epochs, and its journal, which is all that it has said.

What is said is on the disk before it leaves. The topic `masks` shows the same bytes to others: where it holds a word of
this helper's own hand that the journal does not have, the folder is an old copy, and answers nothing any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from actors.disk import sync_folder
from schemas.errors import EXIT_CONFIGURATION, FedlogError

# In one folder, so that whoever moves it moves all of it.
_KEY, _JOURNAL, _BEHIND, _LOCK, EPOCHS = "helper.key", "said.log", "behind", "lock", "epochs"
_KEY_BYTES, _LENGTH_BYTES = 32, 4
# Longer than any statement: what says that it is longer is no journal.
SAID_BYTES_MAX = 1 << 20


class HelperStoreUnusable(FedlogError):
    """The folder of a helper cannot be used; the message names it and says what to do."""

    exit_code = EXIT_CONFIGURATION
    code = "helper_store_unusable"


class HelperStore:
    """One helper's folder, held by this process alone until `close`. Raises HelperStoreUnusable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = _read_key(folder)
        # Two processes would each bind rounds that the other does not know of.
        self._lock = _lock(folder)
        self._file = os.open(folder / _JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # What is on the disk under no name is gone with the power, and with it for which rounds this one has answered.
        sync_folder(folder)
        self.said = [*self._read()]

    @property
    def public_key(self) -> bytes:
        """32 bytes: how policies and devices name this helper."""
        return self.key.public_key().public_bytes_raw()

    @property
    def noise_key(self) -> bytes:
        """32 bytes that this helper alone has: its noise follows from them and a proposal, the same in each life."""
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"fedlog/helper/noise/1").derive(self.key.private_bytes_raw())

    @property
    def is_behind(self) -> bool:
        """Whether it was found once that the journal lacks something that this helper had said."""
        return (self.folder / _BEHIND).exists()

    def mark_behind(self) -> None:
        """From here on, for ever, this folder answers for no round."""
        # A file and no word in the journal, which is what cannot be relied on here.
        descriptor = os.open(self.folder / _BEHIND, os.O_WRONLY | os.O_CREAT, 0o600)
        os.fsync(descriptor)
        os.close(descriptor)
        sync_folder(self.folder)

    def keep(self, statement: bytes) -> None:
        """Add what is about to be said; it is on the disk when this returns."""
        data = len(statement).to_bytes(_LENGTH_BYTES, "little") + statement
        # A short write would be taken for a death, so that nothing is ever said behind one.
        if os.write(self._file, data) != len(data):
            raise HelperStoreUnusable(f"{self.folder / _JOURNAL}: the disk took a part of a statement; free some space")
        os.fsync(self._file)
        self.said.append(statement)

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._file)
        os.close(self._lock)

    def _read(self) -> Iterator[bytes]:
        """Every whole statement; what a death has left of one is cut off."""
        data, at = (self.folder / _JOURNAL).read_bytes(), 0
        while at < len(data):
            begin = at + _LENGTH_BYTES
            length = int.from_bytes(data[at:begin], "little")
            if begin + length > len(data):
                # It was never said: that comes after.
                os.ftruncate(self._file, at)
                os.fsync(self._file)
                return
            if length > SAID_BYTES_MAX:
                raise HelperStoreUnusable(f"{self.folder / _JOURNAL}: not a helper's journal; restore the folder")
            yield data[begin : begin + length]
            at = begin + length


def create_store(folder: Path) -> bytes:
    """Make a helper's folder with a new key; its public key. Raises HelperStoreUnusable where there is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise HelperStoreUnusable(f"{folder / _KEY}: exists; a helper's key is never replaced") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_bytes(_KEY_BYTES).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return read_public_key(folder)


def read_public_key(folder: Path) -> bytes:
    """The public key of the helper in a folder. Raises HelperStoreUnusable."""
    return _read_key(folder).public_key().public_bytes_raw()


def _read_key(folder: Path) -> Ed25519PrivateKey:
    path = folder / _KEY
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text(errors="replace").strip()
    except OSError as error:
        raise HelperStoreUnusable(f"{path}: {error.strerror}; make one with `fedlog helper init`") from error
    if mode & 0o077:
        raise HelperStoreUnusable(f"{path}: mode {mode:04o} lets others read it; run `chmod 600 {path}`")
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    # In words of our own, without a cause: nothing of what is in this file may reach a log.
    except ValueError:
        raise HelperStoreUnusable(f"{path}: must hold {2 * _KEY_BYTES} hex digits and nothing else") from None


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise HelperStoreUnusable(f"{folder}: another process is this helper; end it first") from error
    return descriptor
