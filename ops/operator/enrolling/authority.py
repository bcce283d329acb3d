"""Who may enrol here: whoever holds the operator's key, or the key of an enroller, which works without the log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors import keys
from actors.expiry import require_unexpired
from ops.operator import deployments
from ops.settings import Settings
from schemas.certificates import Signer
from schemas.identity.orders import ENROLLER
from streams.log import EventLog


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The key that signs, whom it speaks for, and the key by which names are known again."""

    author: Ed25519PrivateKey | Signer
    operator: bytes
    deployment: bytes
    subjects: bytes


def open_authority(settings: Settings, log: EventLog) -> Authority:
    """That of the key file of an enroller where one is named, else the operator's. Raises OperatorKeyError."""
    if settings.role_key_file:
        key = keys.load_role(Path(settings.role_key_file), ENROLLER)
        require_unexpired(key)
        return Authority(key.signer, key.operator, key.deployment, key.shared[keys.SUBJECTS])
    operator = keys.load(settings.operator_key_file)
    deployment = deployments.name_deployment(log, operator)
    return Authority(operator.signing, operator.public_key, deployment, operator.derive_subjects(deployment))
