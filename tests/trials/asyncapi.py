"""`make asyncapi`: writes docs/asyncapi.json from the code, and asks AsyncAPI's own parser whether it is one.

The parser comes from npm, into build/asyncapi. What it says is added to docs/results.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from schemas.announcements.asyncapi import write_topic
from tests.root import ROOT
from tests.trials.results import add_row

PACKAGE, VERSION = "@asyncapi/parser", "3.6.6"
FOLDER, COPY = ROOT / "build" / "asyncapi", ROOT / "docs" / "asyncapi.json"
PROGRAM = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(process.argv[1], "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  const found = diagnostics.map(({ severity, message, path }) => ({ severity, message, path: path.join(".") }));
  const messages = document ? document.allMessages().all().map((message) => message.name()) : [];
  console.log(JSON.stringify({ version: document ? document.version() : null, messages, found }));
});
"""
# As the parser numbers them; below are hints of style.
ERROR, WARNING = 0, 1


def validate(text: str) -> dict[str, object]:
    """What the parser makes of a document: its version, its messages, and whatever it has found."""
    if shutil.which("npm") is None:
        sys.exit("npm is missing: apt install npm")
    if not (FOLDER / "node_modules" / PACKAGE).exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run([*command, "--prefix", str(FOLDER), f"{PACKAGE}@{VERSION}"], check=True)
    (FOLDER / "asyncapi.json").write_text(text)
    done = subprocess.run(
        ["node", "-e", PROGRAM, "asyncapi.json"], cwd=FOLDER, check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    """Exit code 1 where the parser finds an error, or takes a damaged document for a good one."""
    text = write_topic()
    COPY.write_text(text)
    told = validate(text)
    faults = [one for one in told["found"] if one["severity"] <= WARNING]  # type: ignore[attr-defined]
    # A parser that finds nothing wrong with anything would prove nothing.
    damaged = validate(text.replace('"action": "send"', '"action": "shout"'))
    is_strict = any(one["severity"] == ERROR for one in damaged["found"])  # type: ignore[attr-defined]
    messages = told["messages"]
    row = {"parser": f"{PACKAGE} {VERSION}", "asyncapi": told["version"], "messages": messages, "faults": faults}
    add_row("asyncapi", {**row, "strict": is_strict})
    sys.stdout.write(f"{json.dumps({**row, 'strict': is_strict}, indent=1)}\n")
    sys.exit(1 if faults or not messages or not is_strict else 0)


if __name__ == "__main__":
    main()
