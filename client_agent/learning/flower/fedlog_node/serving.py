"""The process of an app: requests come in as frames, answers go out as frames, one after the other.

A process beside it ends it, with all that it started, as soon as fedlog's side is gone: whatever the app is at by then,
and also where its native code lets nothing else of the app's process run.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from .frames import encode_frame, list_frames

_LIBRARIES = ("site-packages", "dist-packages")


def serve(lifeline: int) -> None:
    """Answer until the requests end; `lifeline` is a pipe that fedlog's side holds open as long as it lives."""
    _start_guard(lifeline)
    requests, answers = _take_pipes()
    service: Any = None
    for request in list_frames(requests.read):
        try:
            # Only now, because Flower and an app's libraries take seconds to import, and its end is to be noticed.
            service = service or importlib.import_module(f"{__package__}.service").Service(request)
            answer = service.answer(request)
        # sys.exit in an app too: the answer says so, and the next request may fare better.
        except BaseException as error:  # noqa: BLE001
            answer = {"error": describe(error)}
        answers.write(encode_frame(answer))
        answers.flush()
    os.killpg(0, signal.SIGKILL)


def _start_guard(lifeline: int) -> None:
    """Start the process that ends the group: loaders and pools of the app, and whatever holds its interpreter."""
    # Forked while there is one thread, and before libraries fill the memory that both share.
    if os.fork():
        os.close(lifeline)
        return
    try:
        # Held open here, the pipes of an app that died would look like one at work.
        for pipe in (0, 1, 2):
            os.close(pipe)
        os.read(lifeline, 1)
    finally:
        os.killpg(0, signal.SIGKILL)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes under other numbers: what an app prints goes where errors go, and it reads nothing."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


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
