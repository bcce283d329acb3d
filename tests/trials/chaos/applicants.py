"""Who asks the registrar while it is struck: again and again somebody new, now and then a second time."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.events import EnrolmentOpened
from schemas.identifiers import SALT_BYTES
from schemas.identity.orders import say_in_name
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.identity.tokens import TOKEN_MS, EnrolmentToken, sign_token
from schemas.topics import ENROLMENTS
from streams.kafka.log import KafkaLog
from streams.log import Draft, LogError
from tests.trials.chaos.points import PARTITION, TASK
from tests.worlds.builders import FOR_EVER_MS
from tests.worlds.stage import Stage, beside

CLASS, QUOTA = "phones", 1 << 30
EVERY_S = 0.1


@contextmanager
def applicants(stage: Stage) -> Iterator[None]:
    """They come until the end; what they say while no broker answers is lost, and somebody else comes."""
    with beside(partial(_ask, stage)):
        yield


def _ask(stage: Stage, is_over: threading.Event) -> None:
    opened = EnrolmentOpened(
        deployment=stage.deployment,
        population=TASK,
        device_class=CLASS,
        number=1,
        quota=QUOTA,
        until_ms=FOR_EVER_MS,
    )
    with closing(KafkaLog(stage.kafka)) as log:
        said = say_in_name(opened, stage.key.signing)
        for number in itertools.count():
            # Lost with the broker, it is said again: a copy opens nothing a second time.
            for value in (said,) if number % 50 == 0 else _make_requests(stage, again=number % 5 == 0):
                with suppress(LogError):
                    log.append([Draft(topic=ENROLMENTS.name, partition=PARTITION, value=value)])
            if is_over.wait(EVERY_S):
                return


def _make_requests(stage: Stage, *, again: bool) -> list[bytes]:
    """The request of somebody new, perhaps twice."""
    token = EnrolmentToken(
        deployment=stage.deployment,
        population=TASK,
        device_class=CLASS,
        subject=secrets.token_hex(16),
        device=None,
        until_ms=time.time_ns() // 1_000_000 + TOKEN_MS,
        nonce=secrets.token_bytes(SALT_BYTES),
    )
    key = Ed25519PrivateKey.generate()
    request = ask_to_enrol(TASK, key, token=sign_token(token, stage.key.signing))
    return [sign_request(request, key, deployment=stage.deployment)] * (1 + again)
