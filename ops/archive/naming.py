"""Which file of the archive stands where: TASK/VERSION/weights.bin, config.json and privacy.log.

What no version of a task changes, its frozen tensors, stands once beside them: TASK/frozen.bin.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ops.operator.model_files import FROZEN, WEIGHTS
from schemas.identifiers import TASK_PATTERN, TaskId, Version

CONFIGURATION, PRIVACY = "config.json", "privacy.log"
# As config.json names it, from its own folder.
FROZEN_BESIDE = f"../{FROZEN}"
_TASK = re.compile(TASK_PATTERN)
# No leading zero: two names of one version would be two versions.
_NAME = re.compile(rf"([^/]+)/(0|[1-9][0-9]{{0,18}})/({re.escape(WEIGHTS)}|{CONFIGURATION}|{re.escape(PRIVACY)})")


class Place(NamedTuple):
    """One file of one version; without a version one of its task."""

    task: TaskId
    version: Version | None
    file: str

    @property
    def name(self) -> str:
        """Its name in the store."""
        return "/".join([self.task, *([] if self.version is None else [str(self.version)]), self.file])


def parse_place(name: str) -> Place | None:
    """What a name in a store means; None for what no archive puts there."""
    task, _, rest = name.partition("/")
    if not _TASK.match(task):
        return None
    if rest == FROZEN:
        return Place(task, None, FROZEN)
    found = _NAME.fullmatch(name)
    return None if found is None else Place(task, int(found[2]), found[3])
