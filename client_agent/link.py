"""The link: everything that devices say to the server and hear from it, in the words of a device.

`Device`, `DeviceLoop` and the outbox know this protocol only. How the words travel is one module in `links/`: there are
`links/kafka.py` and `links/http.py`. A link serves all devices of one process and
is used from one thread, so it may hold back what devices hand over and send it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import EXIT_UNAVAILABLE, FedlogError
from schemas.events import Answer, TaskCreated
from schemas.identifiers import BodyRef
from schemas.tensors import Floats


class LinkUnavailable(FedlogError):
    """The server cannot be reached; nothing has changed, try again later."""

    exit_code = EXIT_UNAVAILABLE
    code = "link_unavailable"


class ModelMissing(FedlogError):
    """The model that a lease starts from cannot be read any more, or is not what the lease says."""

    code = "model_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBody:
    """The bytes of an update that are too large to travel inside its submission.

    `shards` is the number of partitions over which the task's policy spreads such bodies. `sealed` is the lease and
    `key` the device's, for a transport on which bytes are not taken from strangers.
    """

    task: str
    device: str
    update: str
    codec: str
    shards: int
    data: bytes
    known_sha256: bytes | None = None
    sealed: bytes = b""
    key: Ed25519PrivateKey | None = field(default=None, repr=False, compare=False)

    @property
    def sha256(self) -> bytes:
        """That of the bytes."""
        # To hash four megabytes takes as long as to mask them.
        return self.known_sha256 or hashlib.sha256(self.data).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBody:
    """The address under which the server has stored a body; the device signs it into its submission."""

    device: str
    update: str
    address: BodyRef


class Link(Protocol):
    """The words of a device. What a device hands over may get lost: it repeats whatever gets no answer."""

    # Five words hand something over and return at once, so that a link can send it with that of other devices.

    def check_in(self, task: str, message: bytes) -> None:
        """Hand over a signed check-in for `task`."""
        ...

    def abandon(self, task: str, message: bytes) -> None:
        """Hand over a signed report that a lease of `task` is given up."""
        ...

    def enrol(self, population: str, message: bytes) -> None:
        """Hand over a signed request to be, or to stay, enrolled in a population."""
        ...

    def store(self, body: UpdateBody) -> None:
        """Hand over a body to be stored; `collect_stored` tells its address."""
        ...

    def submit(self, task: str, message: bytes) -> None:
        """Hand over a signed update for `task`, whose body is inside it or stored."""
        ...

    def collect_stored(self) -> list[StoredBody]:
        """Store the bodies that are still held back; the addresses of all bodies stored since the last call."""
        ...

    def send(self) -> None:
        """Send the check-ins and updates that are still held back, in the order in which they were handed over."""
        ...

    def read_answers(self, timeout_s: float) -> list[Answer]:
        """The answers to this process's devices; empty after `timeout_s` without any. Raises LinkUnavailable."""
        ...

    def find_task(self, name: str) -> TaskCreated | None:
        """How the task was created; None while the server does not know it. Raises LinkUnavailable."""
        ...

    def fetch_model(self, created: TaskCreated, ref: BodyRef, *, size: int, timeout_s: float) -> Floats:
        """A vector among the task's models at `ref`, shape (size,), read-only; takes no more memory than that needs.

        Raises ModelMissing, also where `ref` is no place of this task's models; LinkUnavailable after `timeout_s`.
        """
        ...

    def close(self) -> None:
        """Release the link's connections."""
        ...


# Takes the names of the process's devices, because a transport may listen only for those.
OpenLink = Callable[[Sequence[str]], Link]
