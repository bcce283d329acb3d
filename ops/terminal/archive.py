"""Which tasks a folder's owner has put aside: a list of names in the folder. The log keeps every task for good."""

from __future__ import annotations

import json
import re
from pathlib import Path

from client_agent.files import write_durably
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.identifiers import TaskId

_UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}


class AgeInvalid(FedlogError):
    """What was given as an age is none; the message shows some."""

    exit_code = EXIT_USAGE
    code = "age_invalid"


def read_names(folder: Path) -> set[TaskId]:
    """The tasks that are put aside in this folder."""
    # A file that somebody has spoilt hides nothing, which is the safe side.
    try:
        return set(json.loads(_find_file(folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return set()


def write_name(folder: Path, task: TaskId, *, is_archived: bool) -> None:
    """Put a task aside, or list it again."""
    names = read_names(folder) - {task} | ({task} if is_archived else set())
    write_durably(_find_file(folder), json.dumps(sorted(names)).encode())


def parse_age_s(text: str) -> float:
    """An age such as 90m, 24h or 7d, in seconds. Raises AgeInvalid."""
    if (match := re.fullmatch(r"(\d{1,6})([mhd])", text)) is None:
        raise AgeInvalid(f"{text!r} is no age: write 90m, 24h or 7d.")
    return int(match[1]) * _UNITS_S[match[2]]


def _find_file(folder: Path) -> Path:
    return folder / "archived.json"
