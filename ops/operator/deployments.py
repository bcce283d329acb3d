"""The name of a deployment: 16 random bytes that the operator signs into `tasks` once, before anything else is created.

One key may serve several deployments, such as staging and production. What is certified, leased or created in one names
it, and is nothing in another.
"""

from __future__ import annotations

import secrets
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from actors import keys
from actors.keys import Author, Delegate, OperatorKey, RoleKey
from ops.opening import find_operator, load_key
from ops.operator.readback import read_back
from ops.settings import Settings
from schemas.creations import STEWARD, find_deployment, sign_task_event
from schemas.events import DeploymentFounded
from schemas.topics import TASKS
from streams.log import Draft, EventLog, TopicPartition, scan

if TYPE_CHECKING:
    from ops.history.tables.projector import Viewer

AT = TopicPartition(TASKS.name, 0)
DAY_MS = 86_400_000
DEPLOYMENT_BYTES = 16
# For whoever holds the operator's key and issues again at every start.
ISSUED_DAYS = 3_650


def find(log: EventLog, operator: bytes | None) -> bytes | None:
    """The deployment's name; None before it was founded."""
    return find_deployment(scan(log, AT), operator)


def name_deployment(log: EventLog, key: Author) -> bytes:
    """The deployment's name, which the first call draws. Raises WriteHidden where it cannot be read back."""
    # Every command that creates or issues calls this, so that nobody has to remember a first step.
    # A server has a certificate of one deployment, and founds none.
    if isinstance(key, Delegate):
        return key.key.deployment
    if (known := find(log, key.public_key)) is not None:
        return known
    establish(log, key, deployment=secrets.token_bytes(DEPLOYMENT_BYTES))
    # Two may found at once: what is read back counts.
    return read_back(partial(find, log, key.public_key), log=log, at=AT, what="The name of the deployment")


def establish(log: EventLog, key: OperatorKey, *, deployment: bytes) -> None:
    """Give the deployment its name, of 16 bytes; the first one that the log holds counts."""
    # Signed like all that is said about tasks: anybody's word would decide what certificates are worth.
    founded = DeploymentFounded(deployment=deployment)
    log.append([Draft(topic=AT.topic, partition=AT.partition, value=sign_task_event(founded, key.signing))])


def issue_key(log: EventLog, key: OperatorKey, *, role: str, days: int = ISSUED_DAYS, serial: int = 0) -> RoleKey:
    """The key of a role in the deployment of this log, certified for so many days from now; another by each serial."""
    # By this machine's clock: a certificate is compared with append times, which brokers take from theirs.
    until_ms = time.time_ns() // 1_000_000 + days * DAY_MS
    return key.issue(role, name_deployment(log, key), until_ms=until_ms, serial=serial)


def find_viewer(settings: Settings, log: EventLog) -> Viewer:
    """For whom a history is built here: for the operator where the operator's key lies, and else for a reader."""
    from ops.history.tables.projector import Viewer

    operator, key = find_operator(settings), load_key(settings)
    is_operator = key is not None and key.public_key == operator
    return Viewer(operator=operator, deployment=find(log, operator), is_operator=is_operator)


def open_server_key(settings: Settings, log: EventLog) -> RoleKey | None:
    """The key of a server: from its file, else issued here by the operator's key; None where neither is at hand.

    Raises OperatorKeyError, KeyExpired.
    """
    from actors.expiry import require_unexpired

    if settings.role_key_file:
        key = keys.load_role(Path(settings.role_key_file), *keys.SERVE_ROLES)
        require_unexpired(key)
        return key
    # Whoever starts it where the operator's key lies is the operator, and may create tasks as well.
    operator = load_key(settings)
    return None if operator is None else issue_key(log, operator, role=STEWARD)


def open_role_key(settings: Settings, log: EventLog, *, role: str) -> RoleKey:
    """The key of a role: from its file, else issued here by the operator's key.

    Raises OperatorKeyError; KeyExpired for a key that has run out.
    """
    from actors.expiry import require_unexpired

    # A file first: a machine that holds the operator's key as well shall not use it for a worker.
    if settings.role_key_file:
        key = keys.load_role(Path(settings.role_key_file), role)
        require_unexpired(key)
        return _add_epoch_keys(key, settings)
    if not settings.operator_key_file.exists():
        raise keys.OperatorKeyError(
            f"No key for the {role}: name its file with --role-key-file (`fedlog key issue --for {role}` makes it), or "
            f"make the operator's key with `fedlog key create` ({settings.operator_key_file} is missing)."
        )
    return _add_epoch_keys(issue_key(log, keys.load(settings.operator_key_file), role=role), settings)


def _add_epoch_keys(key: RoleKey, settings: Settings) -> RoleKey:
    """The same with the place of the keys of sealed tasks, for a role that opens bodies."""
    if keys.PARTIALS not in key.shared:
        return key
    return msgspec.structs.replace(key, epoch_keys=str(settings.epoch_keys.absolute()))
