"""Helpers that a run or the demo starts itself, so that the tier masked can be tried on one machine.

All of them are then the operator's own: what is hidden is hidden from an honest-but-curious server, and no more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from actors.hosts.helper.store import create_store, read_public_key
from ops.processes.services import Services
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.policy import Masked, Policy, check_policy

HELPERS = 2
TIERS = ("plain", "sealed", "masked")


class TierUnknown(FedlogError):
    """There is no tier of this name."""

    exit_code = EXIT_USAGE
    code = "tier_unknown"


def list_tier_changes(tier: str, folder: Path) -> list[str]:
    """The changes of a policy that a tier stands for; for `masked` with helpers of one's own in `folder`.

    Raises TierUnknown.
    """
    if tier not in ("", *TIERS):
        raise TierUnknown(f"--tier {tier}: takes one of {', '.join(TIERS)}.")
    if tier != "masked":
        return [f'tier="{tier}"'] if tier else []
    named = ", ".join(f'"{_open(_find_folder(folder, number))}"' for number in range(HELPERS))
    # No codec makes a masked vector shorter.
    return ['tier="masked"', f"masked.helpers=[{named}]", 'compression.codec="float32"']


def start_helpers(services: Services, policy: Policy) -> list[str]:
    """Start those helpers of a policy whose folders are here; their names."""
    started = []
    for number, public_key in enumerate(policy.masked_by.helpers if policy.is_masked else ()):
        folder = _find_folder(services.settings.folder, number)
        # Another machine's helper is started there.
        if folder.exists() and read_public_key(folder).hex() == public_key:
            started.append(_start(services, number))
    return started


def kill_helper(services: Services, name: str) -> int:
    """Kill a helper without warning, and start another in its place; the pid of the one that is dead."""
    child = services.services.pop(name).child
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    number = int(name.rpartition("-")[2])
    _start(services, number)
    return child.pid


def mask_policy(policy: Policy, folder: Path) -> Policy:
    """A policy without noise as one of the tier masked, with helpers of one's own. Raises PolicyError."""
    named = tuple(_open(_find_folder(folder, number)) for number in range(HELPERS))
    changed = replace(
        policy,
        tier="masked",
        masked=Masked(helpers=named),
        privacy=None,
        compression=replace(policy.compression, codec="float32"),
    )
    return check_policy(changed)


def _start(services: Services, number: int) -> str:
    folder = _find_folder(services.settings.folder, number)
    services.start(name := f"helper-{number}", "helper", "run", "--state", str(folder.absolute()))
    return name


def _find_folder(folder: Path, number: int) -> Path:
    return folder / "helpers" / str(number)


def _open(folder: Path) -> str:
    return (read_public_key(folder) if folder.exists() else create_store(folder)).hex()


def describe_helpers(started: Sequence[str]) -> str:
    """What is said of them, empty where there are none."""
    if not started:
        return ""
    return f"{len(started)} helpers of your own are starting: honest-but-curious server only."
