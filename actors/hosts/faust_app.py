"""Faust carries records to a host of actors: it says which partitions are ours, and delivers. No more is left to it.

What Faust must not be trusted with (its exactly-once, its tables, its group offsets) is decided by the journals. The
supervisor calls `run`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import aiokafka
import faust
import structlog
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from actors.hosts.host import Host
from actors.hosts.inbox import Delivery, Inbox
from actors.hosts.worker import WorkerOptions, run_to_end, start_worker
from actors.runtime.role import Role
from actors.wiring import ROLES
from schemas.errors import EXIT_CONFIGURATION, FedlogError
from streams.kafka.settings import KafkaSettings
from streams.log import Record, TopicPartition

EXIT_UNCERTAIN = 70
SESSION_TIMEOUT_S = 8.0

logger = structlog.get_logger()


def run(name: str, options: WorkerOptions) -> None:
    """Host the actor `name` until stopped. Exits 70 when only a new claim can find out what has happened.

    Exits 78 where starting again cannot help: its key has run out, or its settings name a wrong place.
    """
    role = ROLES[name]
    started = start_worker(options, topic=role.journal)
    carrier = FaustCarrier(role, options)
    host = Host(role, started, carrier=carrier)
    app = carrier.app

    async def run_host() -> None:
        try:
            await host.run(lambda: app.should_stop)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            logger.critical("worker_failed", actor=name, error=repr(error), exc_info=error)
            # Not an exception: Faust would restart the task in this process, beside a state that nobody knows.
            os._exit(_choose_exit(error))

    app.task(run_host)
    worker = FaustWorker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it writes escape codes between the lines of the log, terminal or not
    run_to_end(worker.execute_from_commandline, finish=host.finish)


def _choose_exit(error: BaseException) -> int:
    is_hopeless = isinstance(error, FedlogError) and error.exit_code == EXIT_CONFIGURATION
    return EXIT_CONFIGURATION if is_hopeless else EXIT_UNCERTAIN


class FaustWorker(faust.Worker):
    """Faust's worker, which leaves SIGUSR1 to the stacks of all threads, and ends when it is done."""

    def install_signal_handlers(self) -> None:
        """Handle Faust's signals but that one."""
        super().install_signal_handlers()
        # Faust's own dump needs the event loop, which may be what hangs, and shows variables, which may be secret.
        # What is registered already is not registered again, though Faust has put its own in that place.
        faulthandler.unregister(signal.SIGUSR1)
        faulthandler.register(signal.SIGUSR1)

    async def _sentinel_task(self) -> None:
        """Let what is left see the end; Faust waits a second for it, when all of its tasks have ended."""
        await asyncio.sleep(0)


class FaustCarrier:
    """One agent on all inputs of a role: their partitions of the same number land on the same worker."""

    def __init__(self, role: Role, options: WorkerOptions) -> None:
        self.app = make_app(role, options)
        self.inbox = Inbox()
        prefix = options.kafka.topic_prefix
        self._names = {f"{prefix}.{topic}" if prefix else topic: topic for topic in role.inputs}
        self._broker_names = {topic: name for name, topic in self._names.items()}
        channel = self.app.topic(
            *self._names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self.app.agent(channel, name="inputs")(self._receive)

    @property
    def is_rebalancing(self) -> bool:
        """Whether Faust is distributing partitions."""
        return bool(self.app.rebalancing)

    @property
    def rebalances(self) -> int:
        """How often it has begun to."""
        return int(self.app.rebalancing_count)

    def find_assigned(self) -> dict[int, set[str]]:
        """The topics of each partition that are ours now."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for tp in self.app.consumer.assignment():
            if tp.topic in self._names:
                found[tp.partition].add(self._names[tp.topic])
        return dict(found)

    async def seek(self, at: TopicPartition, offset: int) -> None:
        """Deliver from this offset on."""
        try:
            # A coroutine: without the await nothing happens but a warning.
            await self.app.consumer.seek(faust.types.TP(self._broker_names[at.topic], at.partition), offset)
        except aiokafka.errors.IllegalStateError:
            # Taken away by a rebalance; if it comes back, the end of that rebalance seeks again.
            return

    async def _receive(self, stream: Any) -> None:
        """Faust's agent: everything goes to the inbox, unacknowledged."""
        async for event in stream.noack().events():
            await self.inbox.put(Delivery(self._read(event.message), event.ack))

    def _read(self, message: Any) -> Record:
        return Record(
            self._names[message.topic],
            message.partition,
            message.offset,
            round(message.timestamp * 1000),
            message.key,
            message.value,
        )


class _App(faust.App):
    """Faust without a place on the disk (it would make folders for tables), and that says why it ends."""

    def _create_directories(self) -> None:
        pass

    def _crash(self, reason: BaseException) -> None:
        # Faust ends the process with code 1 and keeps its consumer's error to itself; it comes here once a service.
        if not self.crashed:
            logger.critical("consumer_died", actor=self.conf.id.rpartition(".")[2], error=repr(reason), exc_info=reason)
        super()._crash(reason)


def make_app(role: Role, options: WorkerOptions) -> faust.App:
    """The Faust application of a role, without agents."""
    kafka = options.kafka
    return _App(
        f"{kafka.topic_prefix or 'fedlog'}.{role.name}",
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_find_credentials(kafka),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=options.instance,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        broker_commit_interval=2.0,
        # Until our own seek Faust hands on what lies at the group's offset, all that one fetch held: keep that short.
        broker_max_poll_records=500,
        stream_wait_empty=False,
        stream_buffer_maxsize=512,
        # Without standby replicas Faust assigns round-robin, and a partition's inputs land on different workers.
        table_standby_replicas=1,
    )


def _find_credentials(kafka: KafkaSettings) -> Any:
    context = kafka.ssl_context()
    if kafka.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism,
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


_create_worker_consumer: Callable[..., aiokafka.AIOKafkaConsumer] = AIOKafkaConsumerThread._create_worker_consumer


def _read_committed(thread: AIOKafkaConsumerThread, transport: Any) -> aiokafka.AIOKafkaConsumer:
    """Faust reads uncommitted records in at-least-once mode; another actor's journal has aborted ones."""
    consumer = _create_worker_consumer(thread, transport)
    consumer._isolation_level = "read_committed"
    return consumer


AIOKafkaConsumerThread._create_worker_consumer = _read_committed  # type: ignore[assignment,method-assign]
