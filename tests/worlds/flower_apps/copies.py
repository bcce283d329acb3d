"""Flower's own environment for tests, and copies of the apps beside this file that have it as theirs."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from tests.bench import peer

APPS = Path(__file__).parent


def copy_app(name: str, folder: Path, *, environment: str = "flower-apps") -> Path:
    """A copy of an app in `folder`, with Flower as its `.venv`."""
    app = shutil.copytree(APPS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    give_environment(app, environment)
    return app


def give_environment(app: Path, environment: str) -> None:
    """Let an app have one of the environments of `peer`."""
    (app / ".venv").symlink_to(install(environment))


def install(environment: str) -> Path:
    """The folder of an environment of `peer`, which is installed where it is not there yet."""
    peer.FOLDER.mkdir(parents=True, exist_ok=True)
    # Two processes of one test run would install into one folder.
    with (peer.FOLDER / f"{environment}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return peer.python(environment).parent.parent
