"""What an archive asks of the place where it keeps files, and what can go wrong there.

A file is there whole or not at all, whenever whoever writes it dies, and two who write side by side lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError


class StoreError(FedlogError):
    """The place of an archive cannot be used.

    StoreError
     ├── StoreAway      it does not answer, or not in time; waiting may help
     │    └── StoreFull  it has no room
     ├── StoreRefused   it says no: credentials, rights, no such bucket
     └── StoreTaken     another deployment's archive stands there
    """

    code = "store_failed"


class StoreAway(StoreError):
    """The place of an archive does not answer, or not in time. Nothing is lost: what is not there is written later."""

    exit_code = EXIT_UNAVAILABLE
    code = "store_away"


class StoreFull(StoreAway):
    """The place of an archive has no room. What is there stays whole, and the rest is written once there is room."""

    code = "store_full"


class StoreRefused(StoreError):
    """The place of an archive refuses: credentials, rights, or there is no such place."""

    code = "store_refused"


class StoreTaken(StoreError):
    """Another archive stands where this one should."""

    exit_code = EXIT_USAGE
    code = "store_taken"


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of a file, and the mark by which its place knows that nobody has changed it since."""

    data: bytes
    mark: str


class Store(Protocol):
    """A place for files by name, such as `digits/4/config.json`. Every word raises StoreAway and StoreRefused."""

    @property
    def address(self) -> str:
        """What messages call it."""
        ...

    def list_sizes(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        """Every file whose name begins so, with how many bytes it has, in no order."""
        ...

    def read(self, name: str) -> Stored | None:
        """A file; None where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all, for good when this returns. Raises StoreFull."""
        ...

    def replace(self, name: str, data: bytes, *, over: Stored | None) -> bool:
        """The same where what stands there is still `over`, or nothing for None; else change nothing: False."""
        ...

    def delete(self, name: str) -> None:
        """Take a file away; nothing where there is none."""
        ...
