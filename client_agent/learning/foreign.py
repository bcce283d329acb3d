"""Calls of code that is not fedlog's: it raises anything, prints, ends its process, and forks."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import ParamSpec, TypeVar

from schemas.errors import FedlogError

P = ParamSpec("P")
T = TypeVar("T")

_OURS = Path(__file__).resolve().parents[2]
_TEXT_MAX = 500


class LearnerError(FedlogError):
    """A user's code failed or gave something else than was asked for; the message names it, the error and its place."""

    code = "learner_failed"


def call(what: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a user's `function`. Raises LearnerError, which begins with `what`, whatever goes wrong in it."""
    process = os.getpid()
    try:
        # What it prints is for people; on standard output a program may be reading.
        with redirect_stdout(sys.stderr):
            return function(*args, **kwargs)
    except (FedlogError, KeyboardInterrupt):
        raise
    # sys.exit too: one task's code must not end what serves others.
    except BaseException as error:
        raise LearnerError(f"{what}: {describe(error)}") from error
    finally:
        if os.getpid() != process:
            # A fork that returned: a second device with the same name and outbox would go on from here.
            os._exit(0)


def describe(error: BaseException) -> str:
    """Type, message and place: the last line outside fedlog and its libraries, which is where its author can look."""
    # Our own words name all that a person needs.
    if isinstance(error, FedlogError):
        return str(error)
    text = f"{type(error).__name__}: {error}"[:_TEXT_MAX] if str(error) else type(error).__name__
    if isinstance(error, SystemExit):
        text = f"it ended its process (sys.exit({error.code!r}))"
    return f"{text}{name_place(error)}"


def name_place(error: BaseException) -> str:
    """Of a long traceback the line that its author can change, in brackets behind a space; nothing without one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_file(frame.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def is_user_file(filename: str) -> bool:
    """Whether a file belongs neither to fedlog nor to a library."""
    path = Path(filename)
    if "site-packages" in path.parts or filename.startswith("<") or path.is_relative_to(sys.base_prefix):
        return False
    return path.is_absolute() and not any(path.is_relative_to(_OURS / ours) for ours in ("client_agent", "ops"))
