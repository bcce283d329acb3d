"""The wheel as a user's own environment has it: built, installed beside nothing else, and used from an empty folder.

    python -m tests.trials.wheel

The versions are those of requirements.lock; packages come from where `make setup` takes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from ops.operator.projects.making import TEMPLATES
from tests.root import ROOT

UV = Path(sys.executable).with_name("uv")
PATIENCE_S = 600.0
# What is tried with the installed wheel, in the order of a first day.
TRIES = (
    ("fedlog", "--version"),
    ("fedlog", "new", "first-try", "--template", "numpy"),
    ("python", "-c", "import fedlog, fedlog.data; print(len(fedlog.data.digits().train[0]), 'digits')"),
    (
        "python",
        "-c",
        """from fedlog.rehearsal import rehearse
found = rehearse('first-try/policy.toml', devices=20)
print(found.curve[-1])
assert found.is_on_target""",
    ),
    ("fedlog", "--help"),
)


def main() -> int:
    """Build, install, try; tell what went wrong, if anything."""
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedlog-wheel-") as scratch:
        folder = Path(scratch)
        wheel = build(folder / "dist")
        if missing := find_missing(wheel):
            print(f"{wheel.name} lacks {', '.join(missing)}")  # noqa: T201
            return 1
        environment = install(wheel, folder / "environment")
        (own := folder / "own").mkdir()
        failed = [words for words in TRIES if not _try(words, environment, cwd=own)]
    print(f"{wheel.name}: {len(failed)} of {len(TRIES)} tries failed, {time.monotonic() - begun_s:.1f} s")  # noqa: T201
    return 1 if failed else 0


def build(folder: Path) -> Path:
    """The wheel of this checkout; setuptools is the one of the lock, so nothing is downloaded."""
    flags = ("--quiet", "--wheel", "--no-build-isolation", "--offline", "--out-dir", str(folder))
    _run(UV, "build", *flags, str(ROOT), cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def find_missing(wheel: Path) -> list[str]:
    """Files that are no modules, and that a wheel forgets first: templates, types, the demo's policy."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    place = TEMPLATES.relative_to(ROOT)
    paths = (path.relative_to(TEMPLATES) for path in TEMPLATES.rglob("*") if path.suffix in (".py", ".toml"))
    wanted = {"fedlog/py.typed", "ops/processes/demo.toml", *(f"{place / path}" for path in paths)}
    return sorted(wanted - held)


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with the wheel and what it needs."""
    _run(UV, "venv", "--quiet", "--python", sys.executable, str(environment), cwd=ROOT)
    python = environment / "bin" / "python"
    told = ("--quiet", "--python", str(python), "--constraint", str(ROOT / "requirements.lock"))
    _run(UV, "pip", "install", *told, str(wheel), cwd=ROOT)
    return environment


def _try(words: tuple[str, ...], environment: Path, *, cwd: Path) -> bool:
    program, *rest = words
    # Nothing of this checkout is found by accident.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FEDLOG"))}
    done = subprocess.run(
        [environment / "bin" / program, *rest],
        cwd=cwd,
        env=inherited,
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{' '.join(words)[:70]} -> {done.returncode}: {(done.stdout or done.stderr).strip()[-300:]}")  # noqa: T201
    return done.returncode == 0


def _run(*words: Path | str, cwd: Path) -> None:
    subprocess.run(
        [str(word) for word in words], cwd=cwd, env=os.environ | _find_index(), timeout=PATIENCE_S, check=True
    )


def _find_index() -> dict[str, str]:
    """Where pip takes packages from, in uv's words: uv reads no settings of pip's."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    return {"UV_DEFAULT_INDEX": index} if index and "UV_DEFAULT_INDEX" not in os.environ else {}


if __name__ == "__main__":
    sys.exit(main())
