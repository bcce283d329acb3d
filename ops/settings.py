"""Where fedlog connects to and how; the only module that reads the environment.

Each value comes from the option, else from the environment, else from its default; for servers and password the
embedded broker of the folder stands in as the last resort.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_agent.files import open_private_folder
from ops.broker_state import find_running, list_principals, read_password
from schemas.errors import EXIT_UNAVAILABLE, EXIT_USAGE, FedlogError
from schemas.identifiers import PARTITIONS_MAX

if TYPE_CHECKING:
    from ops.broker_state import BrokerHandle
    from streams.kafka.log import KafkaLog
    from streams.kafka.settings import KafkaSettings

ENVIRONMENT: dict[str, str] = {
    "FEDLOG_BOOTSTRAP_SERVERS": "bootstrap_servers",
    "FEDLOG_TOPIC_PREFIX": "topic_prefix",
    "FEDLOG_OPERATOR_KEY_FILE": "operator_key_file",
    "FEDLOG_OPERATOR_PUBLIC_KEY": "operator_public_key",
    "FEDLOG_ROLE_KEY_FILE": "role_key_file",
    "FEDLOG_SECURITY_PROTOCOL": "security_protocol",
    "FEDLOG_SASL_MECHANISM": "sasl_mechanism",
    "FEDLOG_SASL_USERNAME": "sasl_username",
    "FEDLOG_SASL_PASSWORD": "sasl_password",
    "FEDLOG_SSL_CAFILE": "ssl_cafile",
    "FEDLOG_SSL_CERTFILE": "ssl_certfile",
    "FEDLOG_SSL_KEYFILE": "ssl_keyfile",
    "FEDLOG_METRICS_HOST": "metrics_host",
    "FEDLOG_METRICS_PORT": "metrics_port",
    "FEDLOG_REPLICATION": "replication",
    "FEDLOG_PARTITIONS": "partitions",
    "FEDLOG_EPOCH_KEYS": "epoch_keys",
    "FEDLOG_FOLDER": "folder",
    "FEDLOG_ALLOW": "allow",
}
"""Variable -> field of Settings; the option of a field is its name with dashes."""

_PATHS = ("folder", "operator_key_file", "epoch_keys")
HISTORY_FILE = "history.duckdb"  # in the folder of a deployment
PUBLIC_KEY = re.compile("[0-9a-f]{64}")
SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SettingsError(FedlogError):
    """A setting is missing or cannot hold; the message names the option, the variable and what to do."""

    exit_code = EXIT_USAGE
    code = "setting_invalid"


class NoBroker(SettingsError):
    """No servers were named, and no embedded broker runs: as where none answers, a script may start one and go on."""

    exit_code = EXIT_UNAVAILABLE
    code = "no_broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one run of the console.

    `epoch_keys` is the folder of the keys of sealed tasks, which aggregators and shard workers share.
    `bootstrap_servers` is empty when none were given; `replication` 0 is 3 where the cluster has three brokers, else 1;
    `partitions` 0 is as many as the topics that exist have, else 8.
    `allow` has the plugins that devices and evaluators here may run because a task names them.
    """

    bootstrap_servers: str = ""
    topic_prefix: str = "fedlog"
    operator_key_file: Path = Path(".fedlog/operator.key")
    operator_public_key: str = ""
    role_key_file: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    replication: int = 0
    partitions: int = 0
    epoch_keys: Path = Path(".fedlog/epoch-keys")
    folder: Path = Path(".fedlog")
    allow: tuple[str, ...] = ()

    @property
    def broker_folder(self) -> Path:
        """Where the embedded broker keeps its data and its state file."""
        return self.folder / "broker"

    def open_folder(self) -> Path:
        """The folder, created if need be and closed to other users: keys, a password and raw updates lie in it.

        Raises FolderTooOpen.
        """
        open_private_folder(self.folder)
        return self.folder

    def move(self, folder: Path) -> Settings:
        """The same for another folder, with the keys of its own."""
        return replace(self, folder=folder, operator_key_file=folder / "operator.key", epoch_keys=folder / "epoch-keys")

    def find_cluster(self) -> Settings:
        """The same with servers and password settled: the given ones, else those of the embedded broker.

        Raises SettingsError when none were given and no embedded broker runs.
        """
        # Whoever says how to get in means a cluster of their own, wherever it is.
        is_told = self.security_protocol != "PLAINTEXT"
        if self.bootstrap_servers and (is_told or not self.bootstrap_servers.startswith("127.0.0.1:")):
            return self
        running = find_running(self.broker_folder)
        if self.bootstrap_servers and (running is None or running.bootstrap_servers != self.bootstrap_servers):
            return self
        if running is None:
            raise NoBroker(
                f"No Kafka to talk to: no embedded broker runs in {self.broker_folder}, and none was named.\n"
                "Start one with `fedlog broker start`, or name yours with --bootstrap-servers HOST:PORT "
                "(or FEDLOG_BOOTSTRAP_SERVERS)."
            )
        if not running.password:
            raise SettingsError(
                f"The embedded broker in {self.broker_folder} was started by an earlier release and asks for no "
                "password. Restart it: `fedlog broker stop`, then `fedlog broker start`; its data stay."
            )
        return replace(self, **{**running.connection, **self._find_principal(running)})

    def _find_principal(self, running: BrokerHandle) -> dict[str, str]:
        """Who comes to an embedded broker with doors: the one that was named, else its super user."""
        if not running.authority or not self.sasl_username:
            return {}
        # A name alone says who comes: the password lies in the folder, whose owner may be anybody here.
        password, known = read_password(self.broker_folder, self.sasl_username), list_principals(self.broker_folder)
        if self.sasl_username not in known:
            raise SettingsError(
                f"{_name_setting('sasl_username')} = {self.sasl_username}: the embedded broker in {self.broker_folder} "
                f"knows {', '.join(known)}."
            )
        return {"sasl_username": self.sasl_username, "sasl_password": password}

    def make_environment(self, **more: str) -> dict[str, str]:
        """The environment in which a child process finds these settings, wherever it runs, and `more` variables."""
        values = {variable: _write(name, getattr(self, name)) for variable, name in ENVIRONMENT.items()}
        # A variable of this process that an option has emptied must not come back in the child.
        others = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
        return {**others, **{name: value for name, value in values.items() if value}, **more}

    def kafka(self, client_id: str = "fedlog-console") -> KafkaSettings:
        """How to reach the cluster, for every client."""
        # `fedlog --help` reads settings too, and must not wait for a Kafka client.
        from streams.kafka.settings import KafkaSettings

        found = self.find_cluster()
        wanted = {f.name: getattr(found, f.name) for f in fields(found)}
        # The connection has its own type in `streams`, which must not know this one.
        known = {f.name for f in fields(KafkaSettings)}
        given = {name: value for name, value in wanted.items() if name in known and value != ""}
        return KafkaSettings(**{**given, "client_id": client_id})

    def log(self, client_id: str = "fedlog-console", *, will_append: bool = False) -> KafkaLog:
        """An open log; the caller closes it."""
        # Before its client is loaded, which takes longer than to find that there is no cluster.
        reached = self.kafka(client_id)
        from streams.kafka.log import KafkaLog

        return KafkaLog(reached, will_append=will_append)


def resolve(options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this run; an option of None was not given. Raises SettingsError."""
    # An option that may be repeated is an empty list when it was not given.
    values: dict[str, Any] = {name: value for name, value in options.items() if value not in (None, [], ())}
    for variable, name in ENVIRONMENT.items():
        # An empty variable counts as not given: compose files pass on variables that were never set.
        if name not in values and environment.get(variable):
            values[name] = _parse(variable, name, text=environment[variable])
    # Another folder is another deployment, and a deployment has a key of its own.
    if "folder" in values and "operator_key_file" not in values:
        values["operator_key_file"] = Path(values["folder"]) / "operator.key"
    if "folder" in values and "epoch_keys" not in values:
        values["epoch_keys"] = Path(values["folder"]) / "epoch-keys"
    if values.get("sasl_mechanism") and "security_protocol" not in values:
        # A password must not travel in clear text only because the protocol was left out.
        values["security_protocol"] = "SASL_SSL"
    settings = Settings(**{**values, "allow": tuple(values.get("allow", ()))})
    # All problems in one message: a person should not have to find them one run at a time.
    if problems := _find_problems(settings):
        raise SettingsError("\n".join(problems))
    return settings


def _parse(variable: str, name: str, *, text: str) -> Any:
    if name in ("metrics_port", "replication", "partitions"):
        try:
            return int(text)
        except ValueError as error:
            raise SettingsError(f"{variable} = {text!r}: must be a whole number") from error
    if name == "allow":
        return tuple(text.replace(",", " ").split())
    # Settings are compared and passed on as values, so each must have its own type from the start.
    return Path(text) if name in _PATHS else text


def _write(name: str, value: Any) -> str:
    """A value as its variable has it, for a process in whatever folder."""
    if name in _PATHS or (value and name.endswith("file")):
        return str(Path(value).absolute())
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _find_problems(settings: Settings) -> list[str]:
    """One line for each setting that cannot hold."""
    problems = []
    if settings.security_protocol not in SECURITY_PROTOCOLS:
        problems.append(_require_one_of("security_protocol", settings.security_protocol, allowed=SECURITY_PROTOCOLS))
    if settings.sasl_mechanism and settings.sasl_mechanism not in SASL_MECHANISMS:
        problems.append(_require_one_of("sasl_mechanism", settings.sasl_mechanism, allowed=SASL_MECHANISMS))
    if settings.security_protocol.startswith("SASL"):
        missing = [n for n in ("sasl_mechanism", "sasl_username", "sasl_password") if not getattr(settings, n)]
        problems += [f"{_name_setting(name)} is missing: {settings.security_protocol} needs it" for name in missing]
    elif settings.sasl_mechanism:
        problems.append(
            f"{_name_setting('sasl_mechanism')} = {settings.sasl_mechanism} needs --security-protocol SASL_SSL "
            f"(or SASL_PLAINTEXT), not {settings.security_protocol}"
        )
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        # A client reports a missing file as a failed handshake, which names neither the file nor the option.
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            problems.append(f"{_name_setting(name)} = {path}: there is no such file")
    if settings.operator_public_key and not PUBLIC_KEY.fullmatch(settings.operator_public_key):
        problems.append(
            f"{_name_setting('operator_public_key')} must be 64 hex digits, as `fedlog key show` prints them"
        )
    return [*problems, *_find_problems_of_values(settings)]


def _find_problems_of_values(settings: Settings) -> Iterator[str]:
    for plugin in settings.allow:
        if [bool(part) for part in plugin.split(":")] != [True, True]:
            yield f"{_name_setting('allow')} = {plugin}: must be module:callable"
    if not 0 <= settings.metrics_port < 65_536:
        yield f"{_name_setting('metrics_port')} = {settings.metrics_port}: must be from 0 (choose one) to 65535"
    if settings.replication < 0:
        yield f"{_name_setting('replication')} = {settings.replication}: must be 0 (choose) or more"
    if not 0 <= settings.partitions <= PARTITIONS_MAX:
        yield f"{_name_setting('partitions')} = {settings.partitions}: must be from 0 (choose) to {PARTITIONS_MAX}"


def _require_one_of(name: str, value: str, *, allowed: tuple[str, ...]) -> str:
    return f"{_name_setting(name)} = {value}: must be one of {', '.join(allowed)}"


def _name_setting(name: str) -> str:
    """A setting as people give it: its option and its variable."""
    variable = next(variable for variable, of in ENVIRONMENT.items() if of == name)
    return f"--{name.replace('_', '-')} ({variable})"


def forget_notebook() -> None:
    """Forget how a notebook shows pictures: commands in its cells inherit it, and may not have it."""
    # matplotlib cannot be imported with a backend that is not installed, and no picture here needs a screen.
    os.environ.pop("MPLBACKEND", None)


def calm_mlflow() -> None:
    """Have MLflow's client tell its maker nothing, and fail soon: whoever calls it waits in its own words."""
    # Before it is imported; what somebody has set stands.
    wanted = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
