"""Who may do what on the brokers: rules, SCRAM passwords and quotas, through kafka-python's admin client."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.protocol.admin import AlterClientQuotasRequest, DescribeClientQuotasRequest

from streams.kafka.errors import translate_errors
from streams.kafka.librdkafka import find_refusal
from streams.kafka.settings import KafkaSettings
from streams.log import LogError, LogRefused, LogUnavailable

_ANY = ACLFilter(
    principal=None,
    host=None,
    operation=ACLOperation.ANY,
    permission_type=ACLPermissionType.ANY,
    resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
)
_USER, _EXACT, _WHATEVER = "user", 0, 2


class NoAuthorizer(LogRefused):
    """The brokers ask nobody what they may do; the message says what to set."""

    code = "no_authorizer"


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One right of one principal, in Kafka's words; `is_prefix`: on all that is called so or longer.

    A rule that is found may hold for one `host` alone, or deny; `principal` then keeps the kind of one who is no user.
    """

    principal: str
    kind: str
    name: str
    operation: str
    is_prefix: bool = False
    host: str = "*"
    is_denial: bool = False


@dataclass(frozen=True, slots=True)
class Brokers:
    """What a broker says of who gets in: the authorizer's class, and whom no rule binds."""

    authorizer: str
    super_users: frozenset[str]


def grant(settings: KafkaSettings, grants: Collection[Grant]) -> None:
    """Add access rules; those that are there stay. Raises LogUnavailable, LogRefused, NoAuthorizer."""
    with _ask(settings, "granting rights") as admin:
        answer = admin.create_acls([_as_acl(each) for each in grants])
    if refused := answer["failed"]:
        _refuse_without_authorizer(refused[0])
        raise LogRefused(f"{len(refused)} of {len(grants)} rights were not granted: {refused[0].__name__}")


def revoke(settings: KafkaSettings, grants: Collection[Grant]) -> None:
    """Remove access rules; those that are not there are as good as removed. Raises as `grant` does."""
    with _ask(settings, "revoking rights") as admin:
        answers = admin.delete_acls([_as_filter(each) for each in grants])
    if refused := [error for _, _, error in answers if error is not errors.NoError]:
        raise LogRefused(f"{len(refused)} of {len(grants)} rights were not revoked: {refused[0].__name__}")


def list_rules(settings: KafkaSettings) -> list[Grant]:
    """Every rule of the cluster. Raises as `grant` does; LogRefused without the right to describe the cluster."""
    with _ask(settings, "asking for the rules of access") as admin:
        return read_rules(admin)


def read_rules(admin: KafkaAdminClient) -> list[Grant]:
    """The same of a client that is open already; its errors are Kafka's."""
    found, _ = admin.describe_acls(_ANY)
    return [_as_grant(acl) for acl in found]


def set_passwords(settings: KafkaSettings, passwords: Mapping[str, str]) -> None:
    """Give these principals a password each (SCRAM-SHA-512), in place of one before. Raises as `grant` does."""
    users = [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, p) for name, p in passwords.items()]
    with _ask(settings, "setting passwords") as admin:
        answer = admin.alter_user_scram_credentials(users)
    if refused := {name: error for name, error in answer.items() if error is not None}:
        raise LogRefused(f"the password of {', '.join(refused)} was not set: {next(iter(refused.values()))}")


def list_logins(settings: KafkaSettings) -> set[str]:
    """Who has a SCRAM password. Raises as `list_rules` does."""
    with _ask(settings, "asking who has a password") as admin:
        return set(admin.describe_user_scram_credentials())


def read_quotas(settings: KafkaSettings) -> dict[str, dict[str, float]]:
    """The quotas of each user, under Kafka's names for them; those of a client's name too are not among them."""
    request = DescribeClientQuotasRequest(components=[(_USER, _WHATEVER, None)], strict=True)
    with _ask(settings, "asking for quotas") as admin:
        answer = _send(admin, request)
        _require(answer.error_code, answer.error_message)
    return {
        # The quota of all users without one of their own has no name, and Kafka's own tools call it so.
        entry.entity[0].entity_name or "<default>": {value.key: value.value for value in entry.values}
        for entry in answer.entries or ()
    }


def set_quotas(settings: KafkaSettings, quotas: Mapping[str, Mapping[str, float | None]]) -> None:
    """Set quotas of users, under Kafka's names; None removes one. Raises as `grant` does."""
    entries = [
        ([(_USER, user)], [(key, 0.0 if value is None else value, value is None) for key, value in changes.items()])
        for user, changes in quotas.items()
        if changes
    ]
    if not entries:
        return
    with _ask(settings, "setting quotas") as admin:
        answer = _send(admin, AlterClientQuotasRequest(entries=entries, validate_only=False))
        for entry in answer.entries:
            _require(entry.error_code, entry.error_message)


def describe_brokers(settings: KafkaSettings) -> Brokers:
    """What the brokers say of who gets in, by the first of them. Raises as `list_rules` does."""
    with _ask(settings, "asking for the brokers' settings") as admin:
        broker = str(admin.describe_cluster()["brokers"][0]["broker_id"])
        resource = ConfigResource(ConfigResourceType.BROKER, broker)
        found = next(iter(admin.describe_configs([resource], config_filter="all").values()))[broker]
    said = {name: str(found[name]["value"] or "") for name in ("authorizer.class.name", "super.users") if name in found}
    users = {user.strip().removeprefix("User:") for user in said.get("super.users", "").split(";")}
    return Brokers(said.get("authorizer.class.name", ""), frozenset(users - {""}))


@contextmanager
def _ask(settings: KafkaSettings, action: str) -> Iterator[KafkaAdminClient]:
    try:
        with translate_errors(action), closing(KafkaAdminClient(**settings.client())) as admin:
            yield admin
    except LogUnavailable as error:
        # kafka-python takes a broker that hangs up on it for one that is away; librdkafka is told why.
        if reason := find_refusal(settings):
            raise LogRefused(f"{action}: {reason}") from error
        raise
    except LogError as error:
        _refuse_without_authorizer(type(error.__cause__))
        if isinstance(error.__cause__, errors.ClusterAuthorizationFailedError):
            raise LogRefused(
                f"{action}: {settings.sasl_username or 'whoever asks'} has no right to. Ask as a super user of the "
                "brokers (--sasl-username), or as one with DESCRIBE, ALTER, DESCRIBE_CONFIGS and ALTER_CONFIGS on the "
                "cluster."
            ) from error
        raise


def _send(admin: KafkaAdminClient, request: Any) -> Any:
    # The library speaks these requests, and has no method for them; its own methods send theirs so.
    return admin._manager.run(admin._manager.send, request)


def _require(code: int, message: str | None) -> None:
    if code:
        raise errors.for_code(code)(message)


def _refuse_without_authorizer(cause: type) -> None:
    if issubclass(cause, errors.SecurityDisabledError):
        raise NoAuthorizer(
            "The brokers ask nobody what they may do: no authorizer is set. Set authorizer.class.name="
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer and super.users on each, and start them again; "
            "`fedlog broker start --secure` starts an embedded one so."
        )


def _as_acl(grant: Grant) -> ACL:
    pattern = ACLResourcePatternType.PREFIXED if grant.is_prefix else ACLResourcePatternType.LITERAL
    return ACL(
        principal=grant.principal if ":" in grant.principal else f"User:{grant.principal}",
        host=grant.host,
        operation=ACLOperation[grant.operation],
        permission_type=ACLPermissionType.DENY if grant.is_denial else ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[grant.kind], grant.name, pattern),
    )


def _as_filter(grant: Grant) -> ACLFilter:
    acl = _as_acl(grant)
    at = acl.resource_pattern
    return ACLFilter(
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission_type,
        resource_pattern=ResourcePatternFilter(at.resource_type, at.resource_name, at.pattern_type),
    )


def _as_grant(acl: ACL) -> Grant:
    at = acl.resource_pattern
    return Grant(
        principal=acl.principal.removeprefix("User:"),
        kind=at.resource_type.name,
        name=at.resource_name,
        operation=acl.operation.name,
        is_prefix=at.pattern_type is ACLResourcePatternType.PREFIXED,
        host=acl.host,
        is_denial=acl.permission_type is ACLPermissionType.DENY,
    )
