"""Flower's deployment on loopback: a SuperLink, SuperNodes, and `flwr run`; run by the peer's own interpreter.

python flower_deployment.py PARAMETERS NODES ROUNDS      one JSON object at the end
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PROJECT = """
[project]
name = "peer"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "peer"

[tool.flwr.app.components]
serverapp = "{app}:server"
clientapp = "{app}:client"
"""
PATIENCE_S = 240.0


def port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Start everything in the working directory, wait for the report, end exactly what was started."""
    work, nodes, rounds = sys.argv[1:4]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    folder, link = Path.cwd(), port()
    report = folder / "report.json"
    prepare(folder, link)
    told = {"PEER_WORK": work, "PEER_NODES": nodes, "PEER_ROUNDS": rounds, "PEER_REPORT": str(report)}
    home = {"PATH": f"{BIN}:{os.environ['PATH']}", "FLWR_HOME": str(folder / ".flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    os.environ.update(told | home)
    with contextlib.ExitStack() as stack:
        superlink = ("flower-superlink", "--insecure", "--disable-runtime-dependency-installation")
        start(stack, *superlink, "--host", "127.0.0.1", "--port", str(link))
        await_port(link)
        for _ in range(int(nodes)):
            supernode = ("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}")
            start(stack, *supernode, "--port", str(port()))
        time.sleep(5)
        subprocess.run([str(BIN / "flwr"), "run", ".", "local"], check=True, stdout=sys.stderr)
        give_up_s = time.monotonic() + PATIENCE_S
        while not report.exists() or not report.read_text():
            if time.monotonic() > give_up_s:
                sys.exit("Flower's deployment did not finish")
            time.sleep(0.5)
        print(report.read_text())  # noqa: T201


def prepare(folder: Path, link: int, *, app: str = "flower_app") -> None:
    """An app for `flwr run`, and where it finds the SuperLink."""
    shutil.copy(Path(__file__).with_name(f"{app}.py"), folder)
    (folder / "pyproject.toml").write_text(PROJECT.format(app=app))
    (folder / ".flwr").mkdir()
    config = f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
    (folder / ".flwr" / "config.toml").write_text(config)


def start(stack: contextlib.ExitStack, *command: str) -> subprocess.Popen[bytes]:
    """A child that ends with the stack."""
    words = [str(BIN / command[0]), *command[1:]]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
    stack.callback(_end, child)
    return child


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    give_up_s = time.monotonic() + 60
    while time.monotonic() < give_up_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    sys.exit("Flower's SuperLink does not listen")


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(5)
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    child.wait()


if __name__ == "__main__":
    main()
