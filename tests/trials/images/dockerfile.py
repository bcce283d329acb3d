"""The Dockerfile as Docker reads it, as far as ours goes: stages, what they stand on, and their instructions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.root import ROOT

DOCKERFILE = ROOT / "Dockerfile"
_UNSAID = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a Dockerfile, joined where it goes on: COPY and what is copied where, say."""

    word: str
    rest: str


def list_instructions(text: str, **arguments: str) -> list[Instruction]:
    """All that makes the last stage, from the first of those that it stands on, with these build arguments."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    found = [Instruction(*line.split(maxsplit=1)) for line in lines]
    stages: dict[str, list[Instruction]] = {}
    given: dict[str, str] = {}
    last = ""
    for instruction in found:
        if instruction.word == "ARG":
            name, _, default = instruction.rest.partition("=")
            given[name] = arguments.get(name, default)
        elif instruction.word == "FROM":
            base, _, name = _fill(instruction.rest, given).partition(" AS ")
            last = name or "(last)"
            stages[last] = [*stages.get(base, [])]
        else:
            stages[last].append(instruction)
    return stages[last]


def copy_and_install(instructions: list[Instruction], *, environment: Path, place: Path) -> list[str]:
    """Do what they copy and what they install with pip, into a virtual environment; the commands that were run.

    Users and folders of the machine are made in an image alone.
    """
    place.mkdir(parents=True)
    ran = []
    for instruction in instructions:
        if instruction.word == "COPY":
            source, target = instruction.rest.split()
            _copy(ROOT / source, place / target)
        elif instruction.word == "RUN" and instruction.rest.startswith("pip "):
            words = ["sh", "-ec", instruction.rest]
            subprocess.run(words, cwd=place, env=make_environment(environment), check=True)
            ran.append(instruction.rest)
    return ran


def make_environment(environment: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process of that environment inherits: nothing that would let it find this checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FEDLOG", "VIRTUAL"))}
    return {**own, "PATH": f"{environment / 'bin'}:{own['PATH']}", **(more or {})}


def list_files(place: Path) -> Iterator[Path]:
    """Every file below, links left out: what they point to is counted where it lies."""
    yield from (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def measure_mb(place: Path) -> float:
    """What lies there takes on the disk, in MB of 10^6 bytes."""
    return sum(path.stat().st_blocks for path in list_files(place)) * 512 / 1e6


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=_UNSAID)
    else:
        shutil.copy(source, target)


def _fill(text: str, given: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], text)
