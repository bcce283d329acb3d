"""Releases, packed so that later ones can be tried beside them (`make release-archive NAME=0.4.0`).

An archive holds the application's packages as one commit has them. The same commit gives the same bytes.
"""

from __future__ import annotations

import io
import lzma
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from tests.root import ROOT

ARCHIVES = ROOT / "tests" / "trials" / "histories" / "releases"
PACKAGES = ("schemas", "streams", "actors", "client_agent", "ops", "fedlog")
ARCHIVE_BYTES_MAX = 700_000


def pack(name: str) -> Path:
    """Write the archive of the commit that is checked out; changes that are not committed stay out of it."""
    command = ["git", "archive", "--format=tar", "HEAD", *PACKAGES]
    packed = lzma.compress(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout, preset=9)
    if len(packed) > ARCHIVE_BYTES_MAX:
        raise SystemExit(f"{len(packed)} bytes, at most {ARCHIVE_BYTES_MAX}: sources only")
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    path = ARCHIVES / f"{name}.tar.xz"
    path.write_bytes(packed)
    return path


def previous() -> Path:
    """The newest archive of another version than this one; this version's own where there is no other."""
    newest_first = sorted(ARCHIVES.glob("*.tar.xz"), key=_numbers, reverse=True)
    return next((path for path in newest_first if _name(path) != version()), newest_first[0])


def unpack(path: Path, folder: Path) -> Path:
    """Unpack an archive into `folder`, and return it: the folder to run that release from."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes()))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def version() -> str:
    """The version that this source says it is."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _name(path: Path) -> str:
    return path.name.removesuffix(".tar.xz")


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", _name(path))))


if __name__ == "__main__":
    sys.stdout.write(f"{pack(sys.argv[1] if sys.argv[1:] else version()).relative_to(ROOT)}\n")
