"""Two threads may be the first to read a type: in another process, because msgspec 0.22 ends the process otherwise."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from functools import reduce
from operator import or_

import msgspec
import pytest

from schemas.canonical import decode, encode

TYPES = 400


def race(number: int, *, careless: bool) -> list[bool]:
    """Decode one value of a type that no decoder was ever built for, in two threads at once."""
    leaf = msgspec.defstruct(f"Leaf{number}", [("a", int)], tag=f"Leaf{number}")
    fields = [("x", list[leaf])]  # type: ignore[valid-type]
    inner = [msgspec.defstruct(f"Inner{number}{k}", fields, tag=f"Inner{number}/{k}") for k in range(8)]
    kind = msgspec.defstruct(f"Top{number}", [("m", dict[str, reduce(or_, inner)])])  # type: ignore[misc]
    value = kind({"key": inner[3]([leaf(1)])})
    data, found, barrier = encode(value), list[bool](), threading.Barrier(2)

    def read() -> None:
        barrier.wait()
        read_value = msgspec.msgpack.Decoder(kind).decode(data) if careless else decode(data, kind)
        found.append(read_value == value)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("careless", [False, True])
def test_two_threads_are_the_first_to_decode_a_type(*, careless: bool) -> None:
    """`decode` builds its decoders under a lock; a decoder built without one shows that the lock is what helps."""
    command = [sys.executable, "-m", "tests.unit.schemas.test_first_use", *(["careless"] if careless else [])]
    ended = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert ended.returncode == (-signal.SIGSEGV if careless else 0), ended.stderr.decode()


if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    for each in range(TYPES):
        assert race(each, careless=sys.argv[1:] == ["careless"]) == [True, True]
