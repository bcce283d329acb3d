"""Who may do what on the brokers: access rules and SCRAM passwords, set through kafka-python's admin client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streams.kafka.errors import translate_errors
from streams.kafka.settings import KafkaSettings
from streams.log import LogRefused


@dataclass(frozen=True, slots=True)
class Grant:
    """One right of one principal, in Kafka's words; `is_prefix`: on all that is called so or longer."""

    principal: str
    kind: str
    name: str
    operation: str
    is_prefix: bool = False


def grant(settings: KafkaSettings, grants: Collection[Grant]) -> None:
    """Add access rules; those that are there stay. Raises LogUnavailable, LogRefused."""
    with translate_errors("granting rights"), closing(KafkaAdminClient(**settings.client())) as admin:
        answer = admin.create_acls([_as_acl(each) for each in grants])
    if refused := answer["failed"]:
        raise LogRefused(f"{len(refused)} of {len(grants)} rights were not granted: {refused[0][1]}")


def set_passwords(settings: KafkaSettings, passwords: Mapping[str, str]) -> None:
    """Give these principals a password each (SCRAM-SHA-512), in place of one before. Raises as `grant` does."""
    users = [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, p) for name, p in passwords.items()]
    with translate_errors("setting passwords"), closing(KafkaAdminClient(**settings.client())) as admin:
        answer = admin.alter_user_scram_credentials(users)
    if refused := {name: error for name, error in answer.items() if error is not None}:
        raise LogRefused(f"the password of {', '.join(refused)} was not set: {next(iter(refused.values()))}")


def _as_acl(grant: Grant) -> ACL:
    pattern = ACLResourcePatternType.PREFIXED if grant.is_prefix else ACLResourcePatternType.LITERAL
    return ACL(
        principal=f"User:{grant.principal}",
        host="*",
        operation=ACLOperation[grant.operation],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[grant.kind], grant.name, pattern),
    )
