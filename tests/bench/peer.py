"""Other systems, each in an environment of its own under build/peers, never among our dependencies."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.trials.results import ROOT

SCRIPTS = Path(__file__).with_name("peers")
FOLDER = ROOT / "build" / "peers"
FLOWER, NVFLARE, APPFL = "1.41.0", "2.9.0", "1.12.0"
REQUIREMENTS = {
    "flower": (f"flwr[simulation]=={FLOWER}", f"torch=={version('torch').split('+')[0]}"),
    "nvflare": (f"nvflare=={NVFLARE}",),
    "appfl": (f"appfl=={APPFL}",),
    # What `make flower` installs, for the apps that fedlog runs.
    "flower-apps": ((ROOT / "requirements-flower.txt").read_text().strip(),),
    # And what Flower's own example apps import.
    "flower-ecosystem": (
        (ROOT / "requirements-flower.txt").read_text().strip(),
        f"torch=={version('torch').split('+')[0]}",
        f"scikit-learn=={version('scikit-learn')}",
        "torchvision",
        "flwr-datasets[vision]==0.6.1",
        "wandb==0.31.0",
    ),
    # What the examples of learners in other frameworks import.
    "frameworks": ("jax==0.10.2", "keras==3.15.1", "tensorflow==2.21.0"),
}
# A thousand clients of APPFL are made in two minutes on a quiet machine, and in six on a busy one.
PATIENCE_S = 1_200.0


def updates_per_s(script: str, parameters: int, *, nodes: int, rounds: int) -> float:
    """Aggregated updates a second of so many rounds of all nodes, after a warm one. Raises PeerError."""
    told = run(script, str(parameters), str(nodes), str(rounds))
    return float(told["updates"]) / float(told["seconds"])


class PeerError(Exception):
    """The peer did not run; the message ends with what it said last."""


def run(script: str, *arguments: str, environment: str = "") -> dict[str, Any]:
    """The JSON object that the script ends with, in `environment` or the one of its name; it leaves nothing behind."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryDirectory() as scratch:
        child = subprocess.Popen(
            [str(python(environment or script.partition("_")[0])), str(SCRIPTS / script), *arguments],
            cwd=scratch,
            env={**os.environ, "RAY_DISABLE_DOCKER_CPU_WARNING": "1", "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)
        finally:
            _end_all(Path(scratch), child)
        output.seek(0)
        lines = output.read().splitlines()
    told = [line for line in lines if line.startswith('{"updates"')]
    if not told:
        raise PeerError(f"{script} {' '.join(arguments)}, exit code {child.returncode}:\n" + "\n".join(lines[-15:]))
    found: dict[str, Any] = json.loads(told[-1])
    return found


def _end_all(scratch: Path, child: subprocess.Popen[bytes]) -> None:
    """End whatever the child has left, also in sessions of their own: all of it has inherited the working directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            cwd = Path(process.cwd())
            if scratch == cwd or scratch in cwd.parents or os.getsid(process.pid) == child.pid:
                process.send_signal(signal.SIGKILL)
    child.wait()


@functools.cache
def python(peer: str) -> Path:
    """The peer's interpreter, installed when it is not there yet, or there with other versions."""
    folder, wanted = FOLDER / peer, "\n".join(REQUIREMENTS[peer])
    stamp, found = folder / "requirements.txt", folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return found
    sys.stderr.write(f"Installing {', '.join(REQUIREMENTS[peer])} into {folder.relative_to(ROOT)} …\n")
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or "uv"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(found), *REQUIREMENTS[peer]], check=True)
    stamp.write_text(wanted)
    return found
