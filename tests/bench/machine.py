"""The machine, the process and the versions that a figure stands on; Linux tells them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("numpy", "torch", "kafka-python", "ray", "zstandard", "msgspec", "cryptography")


def told() -> dict[str, Any]:
    """What it is, and how busy it was with other work."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        **{name: version(name) for name in PACKAGES},
    }


def peak_mb(process: int | str = "self") -> float:
    """The most memory that a process ever had; getrusage would tell its parent's, if that is larger."""
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def find_cpu_ms(call: Callable[[], object], *, repeats: int) -> float:
    """Milliseconds of processor time that a call takes at its best."""
    best_s = float("inf")
    for _ in range(repeats):
        began_s = time.process_time()
        call()
        best_s = min(best_s, time.process_time() - began_s)
    return 1_000 * best_s


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
