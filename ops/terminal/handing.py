"""Hands an announcement to a command of the user's, and says whether it has done its work: for `fedlog subscribe`."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ops.processes import children
from ops.processes.children import Inheritance

END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line for the shell, and how long it may take, in seconds."""

    line: str
    limit_s: float

    def run(self, event: bytes, environment: Mapping[str, str]) -> str:
        """Run it with the event on its stdin; why it has failed, and nothing where it ended with 0.

        What takes longer than the limit is ended, with all that it has started; so it is when this is interrupted.
        """
        # Of the user's own words, at the user's own terminal.
        child = children.start(
            ["/bin/sh", "-c", self.line], has_pipe=True, inherits=Inheritance(environment=environment)
        )
        is_over = False
        try:
            # A command that does not read its stdin is none that fails.
            child.communicate(event, timeout=self.limit_s)
            is_over = True
        except subprocess.TimeoutExpired:
            return f"it took longer than {self.limit_s:g} s and was ended"
        finally:
            # What a command that is done has left running, such as a server, is its own affair.
            if not is_over:
                children.end([child], timeout_s=END_S, with_descendants=True)
        return _explain(child.returncode)


def _explain(code: int) -> str:
    # Of a signal Python says the number with a minus, which nobody knows by heart.
    if code >= 0:
        return f"exit code {code}" if code else ""
    return f"ended by {signal.Signals(-code).name}"
