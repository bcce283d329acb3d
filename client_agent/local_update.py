"""From a model and a device's own examples to the update that leaves it. Called by `device` under a lease."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass, replace

import numpy as np
import structlog

from client_agent.answers import find_epoch_key, find_mask_keys
from client_agent.compression import Compressed, add_residual, clip_update, compress, measure_fidelity
from client_agent.learning.data import DataError
from client_agent.learning.foreign import describe
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.plugins import PluginError
from client_agent.learning.state import encode_state
from client_agent.setting import DeviceSetting
from schemas.events import Granted, TaskCreated
from schemas.leases import Lease
from schemas.masking.ring import SEED_BYTES, mask
from schemas.masking.seeds import seal_seeds, write_header
from schemas.policy import Policy
from schemas.policy.metrics import Fidelity, list_open_reports, to_fixed
from schemas.sealing.envelopes import Binding, Contents, list_sizes, seal_body
from schemas.sealing.epochs import EpochKey
from schemas.tensors import Floats, Quanta
from schemas.tensors.clipping import clip_scale

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """An update ready to be sent, with the metrics that the policy asks for, and what the learner remembers.

    `failure` is why it is a zero vector, and empty where it was trained; then alone `state` says anything. `fidelity`
    follows from this device's own vector, and is None with privacy and where the body is not in the open.
    """

    compressed: Compressed
    metrics: tuple[int, ...]
    state: bytes | None = None
    failure: str = ""
    fidelity: Fidelity | None = None


def make_update(
    setting: DeviceSetting, model: Model, *, residual: Floats | None, context: Context, size: int | None = None
) -> LocalUpdate:
    """Train, protect and compress. Raises what training raises; with privacy only what no data can cause.

    `size`: of the update, where it is no change of the model's vector, as in a measure task.
    """
    policy = context.policy
    try:
        trained = setting.trainer.train(model, context)
        # What is reported is told anew each time, and nothing of it is left over.
        kept = residual if residual is None else residual[: trained.delta.size]
        whole = add_residual(trained.delta, kept)
        protected = clip_update(whole, trained.metrics, policy=policy)
        metrics = report_metrics(policy, trained.metrics)
        # In here too: what cannot be kept must not decide who arrives.
        state = encode_state(trained.state) if trained.state else None
        sent, fidelity = compress(protected, policy=policy), None
        # Told of what others can read anyway, and of nothing else.
        if policy.privacy is None and policy.tier == "plain":
            fidelity = measure_fidelity(whole, protected, sent=sent, policy=policy)
        return LocalUpdate(sent, metrics, state, fidelity=fidelity)
    except Exception as error:
        # A model or module that is not there fails for any data, and must not pass for training.
        is_setup = isinstance(error, PluginError) and not isinstance(error, DataError)
        if policy.privacy is None or is_setup:
            raise
        # With privacy who arrives must not depend on data: whoever cannot train arrives with a zero vector.
        logger.warning("training_failed", device=setting.identity.device, sent="a zero vector", reason=describe(error))
        empty = compress(np.zeros(model.vector.size if size is None else size, np.float32), policy=policy)
        # What earlier updates left over stays for the next one that can be trained.
        failure = f"training failed, and a zero vector is sent: {describe(error)}"
        return LocalUpdate(replace(empty, residual=residual), (), failure=failure)


@dataclass(frozen=True, slots=True)
class Protected:
    """What is sent in the place of the plain body, None in the tier plain, and the seeds sealed to helpers.

    `sha256` is that of what is sent, where it was needed here too.
    """

    envelope: bytes | None
    seals: tuple[bytes, ...] = ()
    sha256: bytes | None = None


def protect_update(created: TaskCreated, lease: Lease, *, made: LocalUpdate, granted: Granted) -> Protected:
    """The body of an update as the task's tier lets it leave the device; the keys come with the lease's answer."""
    if created.policy.is_masked:
        assert made.compressed.quanta is not None
        return mask_update(created, lease, quanta=made.compressed.quanta, granted=granted)
    return Protected(seal_update(created, lease, made=made, key=find_epoch_key(granted, lease)))


def mask_update(created: TaskCreated, lease: Lease, *, quanta: Quanta, granted: Granted) -> Protected:
    """The clipped vector with a mask for each helper, and the seeds of these.

    The seeds are in no file: an outbox keeps what is sent, which a later look at this machine does not unmask.
    """
    public_keys = find_mask_keys(granted, lease, created=created)
    assert public_keys is not None, "a masked task is not trained for without keys"
    seeds, header = [secrets.token_bytes(SEED_BYTES) for _ in public_keys], write_header(lease)
    # Nobody else can clip it: what a server does in other tiers is done here.
    masked = mask(quanta, clip_scale(quanta, created.policy.clipping.steps), seeds=seeds, header=header)
    digest = hashlib.sha256(masked).digest()
    return Protected(masked, seal_seeds(seeds, header, body_sha256=digest, public_keys=public_keys), digest)


def seal_update(created: TaskCreated, lease: Lease, *, made: LocalUpdate, key: EpochKey | None) -> bytes | None:
    """The body of an update with what is reported of it, for its aggregator alone; None where the policy says plain."""
    if not created.policy.is_sealed:
        return None
    assert key is not None, "a sealed task is not trained for without a key"
    binding = Binding(
        deployment=created.deployment,
        task=created.task,
        policy_sha256=created.policy_sha256,
        epoch=key.epoch,
        lease=lease.lease,
        device=lease.device,
        version=lease.version,
    )
    sizes = list_sizes(created.policy, created.parameters)
    return seal_body(Contents(made.compressed.body, made.metrics), binding, public_key=key.public_key, sizes=sizes)


def report_metrics(policy: Policy, metrics: dict[str, float]) -> tuple[int, ...]:
    """What the policy asks for, in its order; nothing where the training does not give all of it."""
    # What the policy does not name stays on the device, whatever the training measured.
    wanted = list_open_reports(policy)
    if missing := [name for name in wanted if name not in metrics]:
        logger.warning("metrics_missing", missing=missing, given=sorted(metrics))
        return ()
    # No number would stand for it: the largest is the worst loss, and the best accuracy.
    if unknown := [name for name in wanted if math.isnan(metrics[name])]:
        logger.warning("metrics_not_numbers", names=unknown)
        return ()
    return tuple(to_fixed(metrics[name]) for name in wanted)
