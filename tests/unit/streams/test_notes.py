"""What the log's own code says is said as before, and who says nothing loads nothing for it."""

from __future__ import annotations

import subprocess
import sys

from structlog.testing import capture_logs

from streams import notes
from streams.notes import Notes
from tests.root import ROOT


def test_a_question_loads_no_logging_and_no_numbers() -> None:
    """Guarantee: the console's road to a history and its log imports nothing that only others need."""
    heavy = {"structlog", "asyncio", "numpy", "confluent_kafka", "rich"}
    code = (
        "import sys, ops.terminal.commands.training.task, ops.history.tables.live, streams.kafka.log; "
        f"print(*sys.modules.keys() & {heavy})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_logging_is_set_up_before_the_first_word_and_once() -> None:
    """Who opens a log for a question sets nothing up, and its warnings look as everybody's."""
    called: list[str] = []
    notes.before_first(lambda: called.append("set up"))
    with capture_logs() as lines:
        Notes("streams.test").warning("first", place=1)
        Notes("streams.test").debug("second")
    assert called == ["set up"]
    assert [(line["event"], line["log_level"]) for line in lines] == [("first", "warning"), ("second", "debug")]
    assert lines[0]["place"] == 1
