"""The link over HTTP, to a gateway: for devices that cannot reach Kafka, which is most that there are.

Its owner's thread hands messages over and goes on; a thread of the link's own holds the connections, waits for answers
and repeats what got none. What a gateway says is believed for the same signatures as what stands in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import TimeoutError as NotInTime
from functools import partial
from typing import Any, TypeVar

import structlog

from client_agent.answers import is_believed
from client_agent.link import LinkUnavailable, ModelMissing, StoredBody, UpdateBody
from client_agent.links.errands import Errands
from client_agent.links.refusals import read_refusal
from client_agent.links.requests import GatewayClient, GatewayOptions, Reply, Unreachable
from client_agent.links.sending import Refused, send_body
from schemas.canonical import MalformedError, decode
from schemas.certificates import Trust, parse_certified
from schemas.events import Answer, DeviceCheckedIn, EnrolmentRequested, LeaseAbandoned, Outcome, TaskCreated
from schemas.http.device_protocol import RECORD_TYPE, WAIT_S_MAX
from schemas.identifiers import BodyRef
from schemas.signing import parse_signed
from schemas.tensors import BodyError, Floats, unpack
from schemas.updates import parse_update

T = TypeVar("T")

Keep = Callable[[Outcome, bytes], None]

MODELS_MAX = 6
TASKS_MAX = 256
# How long one message is repeated before the device says it again itself.
PATIENCE_S = 120.0
ASKED_WITHIN_S = 30.0
# A device's clock is up to ten minutes from log time; a certificate that ended then may have held.
CLOCK_MARGIN_MS = 600_000
WAITING = {"Prefer": f"wait={WAIT_S_MAX}", "Content-Type": RECORD_TYPE}

logger = structlog.get_logger(__name__)


class HttpLink:
    """A `Link` to a gateway. `operator` is the operator's public key: nothing is passed on that it does not vouch for.

    `keep` gets each outcome as the aggregator signed it, before anybody obeys it: a device may prove it later.
    """

    def __init__(
        self,
        options: GatewayOptions,
        operator: bytes,
        devices: Sequence[str],
        *,
        keep: Keep = lambda outcome, message: None,
    ) -> None:
        self._trust, self._keep, self._devices = Trust(operator), keep, frozenset(devices)
        self._client = GatewayClient(options)
        self._errands = Errands(self._client, self._trust)
        self._news = threading.Condition()
        self._answers: list[tuple[Answer, bytes]] = []
        self._stored: list[StoredBody] = []
        self._tasks: OrderedDict[str, TaskCreated] = OrderedDict()
        self._models: OrderedDict[bytes, Floats] = OrderedDict()
        self._works: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="gateway-link", daemon=True).start()
        self._call(self._client.__aenter__(), timeout_s=ASKED_WITHIN_S)

    # --- what a device hands over -----------------------------------------------------------------------------------

    def check_in(self, task: str, message: bytes) -> None:
        """Send the check-in, and wait for its answer in the background; a later one takes its place."""
        device = decode(parse_signed(message).payload, DeviceCheckedIn).device
        self._begin(f"check-in {device}", self._exchange("v1/check-ins", message, device=device), replaces=True)

    def abandon(self, task: str, message: bytes) -> None:
        """Send the report; nobody answers it."""
        said = decode(parse_signed(message).payload, LeaseAbandoned)
        self._begin(f"abandoned {said.lease}", self._exchange("v1/check-ins", message, device=said.device))

    def enrol(self, population: str, message: bytes) -> None:
        """Send the request, and wait for its answer in the background; a later one takes its place."""
        device = decode(parse_signed(message).payload, EnrolmentRequested).device
        self._begin(f"enrolment {device}", self._exchange("v1/enrolments", message, device=device), replaces=True)

    def store(self, body: UpdateBody) -> None:
        """Upload the body in the background; one that is on its way goes on."""
        self._begin(f"body {body.update}", self._upload(body))

    def submit(self, task: str, message: bytes) -> None:
        """Send the update, and wait for its outcome in the background."""
        sealed = parse_update(message).submitted.sealed
        digest = hashlib.sha256(message).hexdigest()
        self._begin(f"update {digest}", self._exchange("v1/updates", message, device="", sealed=sealed))

    # --- what it hears ----------------------------------------------------------------------------------------------

    def collect_stored(self) -> list[StoredBody]:
        """The addresses of all bodies stored since the last call."""
        with self._news:
            stored, self._stored = self._stored, []
        return stored

    def send(self) -> None:
        """Nothing is held back: each message left when it was handed over."""

    def read_answers(self, timeout_s: float) -> list[Answer]:
        """Every answer that has come; waits up to `timeout_s` for the first, or for the address of a body."""
        with self._news:
            self._news.wait_for(lambda: self._answers or self._stored, timeout_s)
            answers, self._answers = self._answers, []
        for answer, message in answers:
            if isinstance(answer, Outcome):
                self._keep(answer, message)
        return [answer for answer, _ in answers]

    def find_task(self, name: str) -> TaskCreated | None:
        """How the task was created, which is asked once. Raises LinkUnavailable."""
        if name not in self._tasks:
            created = self._call(self._errands.find_task(name), timeout_s=ASKED_WITHIN_S)
            if created is None:
                return None
            _remember(self._tasks, (name, created), limit=TASKS_MAX)
        return self._tasks[name]

    def fetch_model(self, created: TaskCreated, ref: BodyRef, *, size: int, timeout_s: float) -> Floats:
        """The vector, downloaded once for all devices of the process. Raises ModelMissing, LinkUnavailable."""
        # By digest, which the lease names: where it stands in the log is the gateway's concern.
        if ref.sha256 not in self._models:
            data = self._call(self._errands.download(ref, size), timeout_s=timeout_s)
            try:
                _remember(self._models, (ref.sha256, unpack(data, "float32", count=size)), limit=MODELS_MAX)
            except BodyError as error:
                raise ModelMissing(f"the model in {ref} cannot be read: {error}") from error
        self._models.move_to_end(ref.sha256)
        if self._models[ref.sha256].size != size:
            raise ModelMissing(f"the model in {ref} has {self._models[ref.sha256].size} parameters")
        return self._models[ref.sha256]

    def close(self) -> None:
        """End what is under way, and the thread."""
        self._call(self._end(), timeout_s=ASKED_WITHIN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)

    # --- in the link's own thread -----------------------------------------------------------------------------------

    def _begin(self, name: str, work: Coroutine[Any, Any, None], *, replaces: bool = False) -> None:
        self._loop.call_soon_threadsafe(partial(self._start, name, work, replaces=replaces))

    def _start(self, name: str, work: Coroutine[Any, Any, None], *, replaces: bool) -> None:
        if (before := self._works.get(name)) is not None:
            if not replaces:
                work.close()
                return
            before.cancel()
        task = self._works[name] = self._loop.create_task(work)
        task.add_done_callback(lambda done: self._works.pop(name) if self._works.get(name) is done else None)

    async def _exchange(self, path: str, message: bytes, *, device: str, sealed: bytes = b"") -> None:
        reply = await self._errands.exchange(path, message, device=device, sealed=sealed)
        if reply is None:
            return
        answer: Answer | None = read_refusal(reply, message)
        said = b""
        if answer is None:
            answer, said = self._read_reply(reply), reply.data
        if answer is not None:
            with self._news:
                self._answers.append((answer, said))
                self._news.notify()

    async def _upload(self, body: UpdateBody) -> None:
        try:
            address = await send_body(self._client, body)
        except (Unreachable, Refused, MalformedError, KeyError, ValueError) as error:
            logger.warning("body_not_stored", update=body.update, reason=str(error))
            return
        # What is signed into the submission has to be what was sent.
        if (address.sha256, address.size) == (body.sha256, len(body.data)):
            with self._news:
                self._stored.append(StoredBody(device=body.device, update=body.update, address=address))
                self._news.notify()

    def _read_reply(self, reply: Reply) -> Answer | None:
        if reply.status < 300:
            return self._read_answer(reply.data) if reply.data else None
        logger.warning("gateway_refuses", status=reply.status, problem=reply.data[:300].decode(errors="replace"))
        return None

    def _read_answer(self, data: bytes) -> Answer | None:
        try:
            message = parse_certified(data)
            answer: Answer = decode(message.payload, Answer)  # type: ignore[arg-type]
        except MalformedError:
            return None
        at_ms = time.time_ns() // 1_000_000 - CLOCK_MARGIN_MS
        is_ours = answer.device in self._devices
        return answer if is_ours and is_believed(answer, message, trust=self._trust, at_ms=at_ms) else None

    async def _end(self) -> None:
        for work in list(self._works.values()):
            work.cancel()
        await asyncio.gather(*self._works.values(), return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    def _call(self, work: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result(timeout_s)
        except NotInTime as error:
            waiting.cancel()
            raise LinkUnavailable("the gateway does not answer") from error
        except Unreachable as error:
            raise LinkUnavailable(str(error)) from error


def open_link(devices: Sequence[str], *, options: GatewayOptions, operator: bytes) -> HttpLink:
    """A link to a gateway. With all but the devices bound it is an `OpenLink`, for another process too."""
    return HttpLink(options, operator, devices)


def _remember(cache: OrderedDict[Any, Any], item: tuple[Any, Any], *, limit: int) -> None:
    cache[item[0]] = item[1]
    while len(cache) > limit:
        cache.popitem(last=False)
