"""The process of an app: requests come in as frames, answers go out as frames, one after the other.

It is ended, with all that it started, as soon as the pipe of its requests closes: fedlog's side is gone then.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from .frames import encode_frame, list_frames

_LIBRARIES = ("site-packages", "dist-packages")


def serve() -> None:
    """Answer until the requests end."""
    requests, answers = _take_pipes()
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    # A thread reads, so that the end of fedlog's side is noticed while the app trains.
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    service: Any = None
    while True:
        request = waiting.get()
        try:
            # Only now, because Flower and an app's libraries take seconds to import, and its end is to be noticed.
            service = service or importlib.import_module(f"{__package__}.service").Service(request)
            answer = service.answer(request)
        # sys.exit in an app too: the answer says so, and the next request may fare better.
        except BaseException as error:  # noqa: BLE001
            answer = {"error": describe(error)}
        answers.write(encode_frame(answer))
        answers.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes under other numbers: what an app prints goes where errors go, and it reads nothing."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _read(requests: BinaryIO, waiting: queue.SimpleQueue[dict[str, Any]]) -> None:
    try:
        for request in list_frames(requests.read):
            waiting.put(request)
    finally:
        # All of the group, which fedlog made for this process: loaders and pools of the app end with it.
        os.killpg(0, signal.SIGKILL)


def describe(error: BaseException) -> str:
    """Type, message and place: the last line outside libraries, which is where the app's author can look."""
    text = f"{type(error).__name__}: {str(error).strip()}"[:500]
    if isinstance(error, SystemExit):
        text = f"it ended its process (sys.exit({error.code!r}))"
    own = str(Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<", sys.base_prefix))
        and not any(part in frame.filename for part in _LIBRARIES)
    ]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
