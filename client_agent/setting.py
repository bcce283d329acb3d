"""What one device is made of; `running/` puts it together, `Device` works with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_agent.conditions import DeviceProfile, FixedProfile
from client_agent.enrolling.membership import Membership
from client_agent.identity import Identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.trainer import Trainer

MODEL_BYTES_MAX = 1 << 30


def _work_takes_no_time() -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetting:
    """One device's identity, training and behaviour.

    `synced`: whether the outbox survives the death of the machine, not only of the process. `clock_ms`: the time after
    work; in a simulation by virtual time, where work takes none, it stays 0. `model_bytes_max`: a task whose parameters
    take more memory is not trained here.
    """

    task: str
    identity: Identity
    folder: Path
    trainer: Trainer
    # What the policy names is run only where it is in here, or comes with fedlog.
    allowed: AllowList = field(default_factory=AllowList)
    # A real device's profile is the default; a fleet sets one a device.
    profile: DeviceProfile = field(default_factory=FixedProfile)
    cohort: str = ""
    # The version that it runs in production, which it says with each check-in; None says nothing.
    running: int | None = None
    # Public keys of helpers: where there are some, only tasks that one of them masks are trained here.
    helpers: frozenset[bytes] = frozenset()
    # Where the task's policy asks for enrolled devices.
    membership: Membership | None = None
    # Which device of its fleet it is, in a simulation that can be repeated; else its label tells it from others.
    place: str = ""
    # The policy's plugins whose source on this machine is not the operator's.
    differing: tuple[str, ...] = ()
    synced: bool = True
    model_bytes_max: int = MODEL_BYTES_MAX
    clock_ms: Callable[[], int] = _work_takes_no_time

    @property
    def sample_count(self) -> int:
        """How many examples the device trains on."""
        return self.trainer.sample_count
