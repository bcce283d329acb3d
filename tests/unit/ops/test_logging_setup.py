"""What libraries log comes out in the form of our own lines, so that a collector can read every line."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from ops.logging_setup import set_up_logging
set_up_logging(as_json=True)
set_up_logging(as_json=True)
logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
logging.getLogger("somebody").info("chatter")
logging.getLogger("librdkafka").error("broker away")
try:
    raise ValueError("boom")
except ValueError:
    logging.getLogger("uvicorn.error").exception("in the application")
"""


def test_a_library_s_words_are_lines_like_ours() -> None:
    """Law: a line that is no JSON is lost to whoever collects; an error keeps its traceback, nothing comes twice."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stderr=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"], line["library"], line["text"]) for line in lines] == [
        ("library_said", "warning", "uvicorn.error", "Invalid request"),
        ("library_said", "error", "uvicorn.error", "in the application"),
    ]
    assert "ValueError: boom" in lines[1]["exception"]
