"""A Flower app by its name in a policy: where it lies on this machine, its interpreter, and its digest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from client_agent.learning.plugins import PluginError
from schemas.identifiers import Sha256
from schemas.policy import FLOWER_APP

PROJECT = "pyproject.toml"
SOURCES = (".py", ".toml")
# Made by `make flower`; an app that has an environment of its own brings Flower along.
ENVIRONMENT = Path(__file__).resolve().parents[3] / "build" / "flower"

# A name or a path, of which a person may copy a command into a shell.
_PLAIN_PATH = re.compile(r"flower-app:[A-Za-z0-9_./-]{1,300}")


def is_app_name(text: str) -> bool:
    """Whether it reads `flower-app:NAME`, with a plain name or path."""
    return _PLAIN_PATH.fullmatch(text) is not None


def find_app(name: str) -> Path:
    """The folder of an app, a name or a path from the current directory. Raises PluginError."""
    folder = Path(name.removeprefix(FLOWER_APP)).absolute()
    if not name or not (folder / PROJECT).is_file():
        raise PluginError(
            f"there is no Flower app {name!r}: {folder} holds no {PROJECT}; run from the folder that has it"
        )
    return folder


def find_python(app: Path) -> Path:
    """The interpreter that has Flower: the app's own, or the one of `make flower`. Raises PluginError."""
    for environment in (app / ".venv", ENVIRONMENT):
        if (python := environment / "bin" / "python").exists():
            return python
    raise PluginError(
        f"Flower is not installed for {app.name!r}: run `make flower` once, or give the app its own .venv"
    )


def hash_app(name: str) -> Sha256:
    """The digest of the app's code and settings: every .py and .toml file of its folder. Raises PluginError."""
    # What an app reads beside these, as its data, may differ from device to device.
    folder, digest = find_app(name), hashlib.sha256()
    for place in sorted(_list_sources(folder)):
        told, data = place.encode(), (folder / place).read_bytes()
        # Lengths first, so that no two folders have the same bytes.
        digest.update(b"%d %d " % (len(told), len(data)) + told + data)
    return digest.digest()


def _list_sources(folder: Path) -> Iterator[str]:
    """Paths below the folder; environments, caches and version control are not the app's source."""
    for where, folders, files in os.walk(folder):
        # Not even looked into, because an environment has tens of thousands of files.
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        own = (Path(where, name) for name in files if name.endswith(SOURCES) and not name.startswith("."))
        yield from (path.relative_to(folder).as_posix() for path in own)
