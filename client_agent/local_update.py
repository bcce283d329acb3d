"""From a model and a device's own examples to the update that leaves it. Called by `device` under a lease."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import structlog

from client_agent.compression import Compressed, compress, protect
from client_agent.learning.data import DataError
from client_agent.learning.plugins import PluginError
from client_agent.setting import DeviceSetting
from schemas.policy import Policy
from schemas.tensors import Floats

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """An update ready to be sent; `failure` is why it is a zero vector, and empty where it was trained."""

    compressed: Compressed
    failure: str = ""


def make_update(
    setting: DeviceSetting, policy: Policy, *, model: Floats, residual: Floats | None, seed: int
) -> LocalUpdate:
    """Train, protect and compress. Raises what training raises; with privacy only what no data can cause."""
    try:
        delta = setting.train(policy, model, *setting.examples, seed=seed)
        return LocalUpdate(compress(protect(delta, residual, norm=policy.clipping.norm), policy=policy))
    except Exception as error:
        # A model or module that is not there fails for any data, and must not pass for training.
        is_setup = isinstance(error, PluginError) and not isinstance(error, DataError)
        if policy.privacy is None or is_setup:
            raise
        # With privacy who arrives must not depend on data: whoever cannot train arrives with a zero vector.
        logger.exception("training_failed", device=setting.identity.device, sent="a zero vector")
        empty = compress(np.zeros(model.size, np.float32), policy=policy)
        # What earlier updates left over stays for the next one that can be trained.
        return LocalUpdate(Compressed(empty.body, residual), f"training failed, and a zero vector is sent: {error}")
