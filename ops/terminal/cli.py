"""`fedlog`, the entry point: global options, the list of commands, and errors that people can act on.

A command is imported when it is asked for, and nothing heavy at the top of its module, so that `fedlog --help` answers
at once.
"""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ops import settings
from ops.console import note, say
from ops.terminal import errors
from ops.terminal.loading import LoadedCommands, spare_checks
from ops.terminal.options import WORDS, Allow

EXIT_INTERRUPTED = 130
# In the order in which a newcomer needs them; each with the module of `commands` that has it, and its name there.
COMMANDS = {
    "new": "training.new:new",
    "run": "training.run:run",
    "compare": "history.compare:compare",
    "stop": "training.run:stop",
    "demo": "training.demo:demo",
    "broker": "cluster.broker:app",
    "key": "cluster.key:app",
    "ca": "cluster.ca:app",
    "topics": "cluster.topics:app",
    "acl": "cluster.acl:app",
    "status": "cluster.status:status",
    "doctor": "cluster.doctor:doctor",
    "policy": "training.policy:app",
    "task": "training.task:app",
    "population": "cluster.population:app",
    "worker": "cluster.worker:app",
    "helper": "cluster.helper:app",
    "evaluate": "training.evaluate:evaluate",
    "measure": "training.measure:measure",
    "drift": "cluster.drift:drift",
    "fleet": "training.fleet:fleet",
    "device": "training.device:device",
    "enrol": "cluster.enrol:app",
    "revoke": "cluster.enrol:revoke",
    "forget": "cluster.enrol:forget",
    "serve": "serving.serve:serve",
    "gateway": "serving.gateway:gateway",
    "token": "serving.token:app",
    "mlflow": "serving.mlflow:mlflow",
    "subscribe": "serving.subscribe:subscribe",
    "query": "history.query:query",
    "history": "history.query:app",
    "explain": "history.explain:explain",
    "diff": "history.explain:diff",
    "plot": "history.plot:plot",
    "devices": "history.devices:devices",
    "receipt": "history.receipt:receipt",
    "report": "history.report:report",
    "trace": "history.trace:trace",
    "events": "history.events:events",
    "verify": "history.verify:verify",
    "replay": "history.replay:replay",
    "export-log": "history.export_log:export_log",
    "model": "training.model:app",
    "rollout": "serving.rollout:app",
    "archive": "serving.archive:archive",
}


class Root(TyperGroup):
    """Accepts global options anywhere on the line, and turns exceptions into a message and an exit code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Typer would ask for all of them at once, and their modules take longer to import than most commands run.
        commands = LoadedCommands(COMMANDS, package="ops.terminal.commands")
        commands.update(self.commands)
        self.commands = commands

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a newcomer needs them."""
        return [*self.commands]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move global options to the front, so that they may stand after the command too."""
        # click would take a global option behind the command for one of the command's own, and refuse it.
        takes_value = {name: not option.is_flag for option in self.params for name in option.opts}  # type: ignore[attr-defined]
        # `--help` must stay where it stands: it asks about the command before it.
        takes_value.pop("--help", None)
        # Of a command it is the version of a model.
        takes_value.pop("--version", None)
        ctx.meta[WORDS] = list(args)
        spare_checks(self.get_params(ctx))
        rest: list[str] = super().parse_args(ctx, move_to_front(args, takes_value))
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An exception ends in a message on stderr that says what to do."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of the pipe has ended, as `head` does
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("click", "typer"):
                raise  # wrong usage, which typer explains itself
            code, message = errors.explain(error)
            # A traceback helps a developer of fedlog, and hides the message from everybody else.
            if ctx.params.get("debug"):
                traceback.print_exc()
            note(message)
            raise typer.Exit(code) from None


def move_to_front(args: list[str], takes_value: dict[str, bool]) -> list[str]:
    """`args` with the global options (name -> whether a value follows) first; nothing after `--` is touched."""
    # Whatever follows `--` belongs to the command, even where it looks like an option of ours.
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(args[:end])
    for word in remaining:
        name, equals, _ = word.partition("=")
        if name not in takes_value:
            rest.append(word)
            continue
        # Only the global options move; those of a command keep their order, which may matter to it.
        front.append(word)
        if takes_value[name] and not equals and (value := next(remaining, None)) is not None:
            front.append(value)
    return front + rest + args[end:]


app = typer.Typer(
    name="fedlog",
    cls=Root,
    help="Federated learning on a Kafka log.",
    epilog="Options may stand before or after the command. Each is also a variable: --folder is FEDLOG_FOLDER.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_KAFKA = "Kafka"
Text = str | None


def _say_version(is_asked: bool) -> None:
    """Print the version, and nothing else."""
    if is_asked:
        # A tenth of the time of every other command, if all of them loaded it.
        from importlib import metadata

        say(f"fedlog {metadata.version('fedlog')}")
        raise typer.Exit


VersionAsked = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.")
]
MetricsHost = Annotated[Text, typer.Option(help="Address on which a worker serves metrics (default: 127.0.0.1).")]


@app.callback()
def root(
    ctx: typer.Context,
    bootstrap_servers: Annotated[
        Text, typer.Option(help="Addresses of Kafka, HOST:PORT,… (default: the embedded broker).")
    ] = None,
    topic_prefix: Annotated[Text, typer.Option(help="Prefix of every topic's name (default: fedlog).")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the broker's data, the key and pids (default: .fedlog).")
    ] = None,
    operator_key_file: Annotated[
        Path | None, typer.Option(help="File with the operator's key (default: FOLDER/operator.key).")
    ] = None,
    operator_public_key: Annotated[
        Text, typer.Option(metavar="HEX", help="The operator's public key (default: that of the operator's key).")
    ] = None,
    role_key_file: Annotated[
        Text, typer.Option(help="File with the key of a worker's role (default: issued by the operator's key).")
    ] = None,
    epoch_keys: Annotated[Path | None, typer.Option(help="Keys of sealed tasks (default: FOLDER/epoch-keys).")] = None,
    replication: Annotated[
        int | None, typer.Option(help="Replicas of a new topic (default: 3 with 3 or more brokers, else 1).")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions of a new topic; never changes (default: as others have, else 8).")
    ] = None,
    security_protocol: Annotated[
        Text, typer.Option(help="One of " + ", ".join(settings.SECURITY_PROTOCOLS) + ".", rich_help_panel=_KAFKA)
    ] = None,
    sasl_mechanism: Annotated[
        Text, typer.Option(help="One of " + ", ".join(settings.SASL_MECHANISMS) + ".", rich_help_panel=_KAFKA)
    ] = None,
    sasl_username: Annotated[Text, typer.Option(help="User name for SASL.", rich_help_panel=_KAFKA)] = None,
    sasl_password: Annotated[
        Text, typer.Option(help="Safer as FEDLOG_SASL_PASSWORD: `ps` shows options.", rich_help_panel=_KAFKA)
    ] = None,
    ssl_cafile: Annotated[
        Text, typer.Option(help="Certificates of the authorities that sign the brokers' own.", rich_help_panel=_KAFKA)
    ] = None,
    ssl_certfile: Annotated[Text, typer.Option(help="Certificate of this client.", rich_help_panel=_KAFKA)] = None,
    ssl_keyfile: Annotated[Text, typer.Option(help="Private key of this client.", rich_help_panel=_KAFKA)] = None,
    metrics_host: MetricsHost = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port for metrics; 0 takes a free one (default: 0).")] = None,
    allow: Allow = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: VersionAsked = False,
) -> None:
    """Federated learning on a Kafka log. Each option is also a variable: FEDLOG_ and its name in capitals."""
    # Settings are resolved once here, so that every command sees the same ones.
    options = {name: value for name, value in ctx.params.items() if name not in ("debug", "version")}
    ctx.obj = settings.resolve(options)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point of `fedlog`; SIGTERM ends a command as Ctrl-C does, so that it cleans up."""
    # A container stops its command with SIGTERM, and children must then be ended in order.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(app())


if __name__ == "__main__":
    main()
