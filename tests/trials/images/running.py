"""Processes of an image's environment, each as its principal, as a container would run them."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.trials.images.dockerfile import make_environment


def find_free_port() -> int:
    """One that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Container:
    """One process and all of its children, in a session and a folder of their own."""

    def __init__(self, words: Sequence[str], *, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.log = folder / "said.log"
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                list(words),
                cwd=folder,
                env={**environment, "HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )

    def read_url(self) -> str:
        """The first line, which names where it listens."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.log.read_text()
        return line

    def end(self) -> None:
        """SIGTERM, as a container is stopped, and SIGKILL for what is left."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Containers:
    """All of them; `stack` ends them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._running: dict[str, Container] = {}

    @property
    def names(self) -> list[str]:
        """Who was started."""
        return [*self._running]

    def start(self, principal: str, *words: str, **told: str) -> Container:
        """`fedlog words` as this principal, with these variables beside."""
        started = Container(
            ["fedlog", *words], folder=self._folder / principal, environment=self._environment(principal, told)
        )
        self._running[principal] = started
        self._stack.callback(started.end)
        return started

    def run(self, principal: str, *words: str, may_find: bool = False, **told: str) -> None:
        """The same to its end, which is 0 but where it may find something."""
        environment = self._environment(principal, told)
        subprocess.run(["fedlog", *words], env=environment, check=not may_find, stdout=subprocess.DEVNULL)

    def read_tails(self) -> str:
        """What each said last."""
        tails = {name: one.log.read_text(errors="replace").splitlines()[-8:] for name, one in self._running.items()}
        return "\n".join(f"{name}: {line[:300]}" for name, lines in tails.items() for line in lines)

    def list_loaded(self, modules: Sequence[str]) -> list[str]:
        """Which of these are mapped into one of the processes: nothing of them is there to be mapped."""
        found = set()
        for name, one in self._running.items():
            parent = psutil.Process(one.process.pid)
            for process in (parent, *parent.children(recursive=True)):
                with suppress(psutil.Error):
                    paths = [mapped.path for mapped in process.memory_maps()]
                    found |= {f"{name}: {each}" for each in modules if any(f"/{each}/" in path for path in paths)}
        return sorted(found)

    def _environment(self, principal: str, told: dict[str, str]) -> dict[str, str]:
        # What `fedlog broker start --secure` writes is an env file for containers.
        text = (self._folder / "fedlog" / "broker" / "clients" / f"{principal}.env").read_text()
        given = dict(word.split("=", 1) for word in shlex.split(text, comments=True) if "=" in word)
        return make_environment(self._folder / "environment", {**given, **told})
