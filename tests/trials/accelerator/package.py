"""A package by which torch finds the device of `apart.cpp` in every process: copied beside what is compiled of it.

Torch imports it by its entry point, as the package of any accelerator that torch itself does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from apart_device import _apart
from apart_device._apart import count_bytes, current_device, device_count, set_device

__all__ = ["count_bytes", "current_device", "device", "device_count", "load", "manual_seed", "set_device"]


def load() -> None:
    """Give the device a name, without which torch takes CUDA for the accelerator, and what torch asks of its module."""
    torch.utils.rename_privateuse1_backend("apart")
    torch._register_device_module("apart", sys.modules[__name__])


def is_available() -> bool:
    """Always."""
    return True


def manual_seed(seed: int) -> None:
    """Seed the current device alone, as `torch.cuda.manual_seed` does."""
    _apart.seed_device(current_device(), seed % (1 << 64))


def manual_seed_all(seed: int) -> None:
    """Seed both."""
    for index in range(device_count()):
        _apart.seed_device(index, seed % (1 << 64))


def _is_in_bad_fork() -> bool:
    return False


@contextmanager
def device(index: int) -> Iterator[None]:
    """Another current device in the block."""
    before = current_device()
    set_device(index)
    try:
        yield
    finally:
        set_device(before)
