"""Brings the page's libraries from npm and compares them with the digests below; whoever updates one changes both.

make assets
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ASSETS = Path(__file__).parents[3] / "ops" / "web" / "page" / "assets"
PACKAGE = "htmx.org@4.0.1"
# What lies in the package, what it is called here, and its sha256.
FILES = {
    "package/dist/htmx.min.js": ("htmx.min.js", "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"),
    "package/dist/ext/hx-sse.min.js": (
        "hx-sse.min.js",
        "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
    ),
    "package/LICENSE": ("htmx.LICENSE.txt", "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38"),
}


def main() -> int:
    """Fetch, compare, and write; 1 where a file is another one, and then nothing is written."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", folder]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        with tarfile.open(Path(folder) / told.stdout.split()[-1]) as archive:
            found = {name: archive.extractfile(name) for name in FILES}
            files = {name: member.read() for name, member in found.items() if member is not None}
    wrong = [name for name, (_, digest) in FILES.items() if hashlib.sha256(files.get(name, b"")).hexdigest() != digest]
    for name in wrong:
        sys.stderr.write(f"{name} of {PACKAGE} is another file than the one that was looked at.\n")
    if not wrong:
        for name, (target, _) in FILES.items():
            (ASSETS / target).write_bytes(files[name])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
