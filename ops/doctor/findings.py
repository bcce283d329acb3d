"""Findings of a look at a deployment: what is wrong, how bad that is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

EXIT_ERRORS, EXIT_WARNINGS = 1, 5


class Severity(StrEnum):
    """The worst first. A note says what could not be looked at, and changes no exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`check` is the family, `subject` what it is about, `remedy` what to do, a command where there is one."""

    check: str
    severity: Severity
    subject: str
    what: str
    remedy: str

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def find_exit_code(findings: Sequence[Finding]) -> int:
    """0 without errors and warnings, 1 with an error, 5 with nothing worse than warnings."""
    # Notes alone leave it at 0: a cluster that lets nobody ask would page its owner every minute.
    found = {finding.severity for finding in findings}
    if Severity.ERROR in found:
        return EXIT_ERRORS
    return EXIT_WARNINGS if Severity.WARNING in found else 0
