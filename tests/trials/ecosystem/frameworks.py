"""The examples of docs/examples that need another framework, in an environment of their own; called by `__main__`."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.root import ROOT
from tests.trials.results import add_row
from tests.worlds.flower_apps.copies import install

ACCURACY_LEAST = 0.85
PATIENCE_S = 900.0


@dataclass(frozen=True, slots=True)
class Example:
    """One policy of docs/examples, and how its framework is told what to use."""

    name: str
    frameworks: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return "-".join((self.name, *self.frameworks))


EXAMPLES = (
    Example("jax_digits", ("jax",)),
    Example("keras_digits", ("keras", "tensorflow"), {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}),
    Example("keras_digits", ("keras", "jax"), {"KERAS_BACKEND": "jax"}),
)


def try_all(only: str) -> Iterator[tuple[str, bool]]:
    """Train each whose title has `only` in it; add a row for each, and tell whether it reached its score."""
    for example in EXAMPLES:
        if only in example.title:
            yield example.title, _try(example, _open_environment())


def _open_environment() -> Path:
    """The frameworks' interpreter, which finds fedlog and its packages behind its own."""
    folder = install("frameworks")
    # Behind: what a framework pins itself comes first, and torch is not installed a second time.
    paths = f"{sysconfig.get_path('purelib')}\n{ROOT}\n"
    next(folder.glob("lib/python*/site-packages")).joinpath("zz_fedlog.pth").write_text(paths)
    return folder / "bin" / "python"


def _try(example: Example, python: Path) -> bool:
    begun_s = time.monotonic()
    done = subprocess.run(
        [str(python), "-m", "tests.trials.ecosystem.in_memory", example.name],
        cwd=ROOT,
        env={**os.environ, **example.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    told = _read_scores(done)
    is_right = "scores" in told and told["scores"][-1]["accuracy"] >= ACCURACY_LEAST
    row = {"example": example.title, "right": is_right, **told, "seconds": round(time.monotonic() - begun_s, 1)}
    add_row("ecosystem", row)
    print(f"{example.title}: {'right' if is_right else 'WRONG'} {told}", flush=True)  # noqa: T201
    return is_right


def _read_scores(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"error": done.stderr[-2000:]}
