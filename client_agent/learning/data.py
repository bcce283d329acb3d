"""The part of the data that a device or the evaluator has, and the data plugin that reads it.

A data plugin is a callable that takes a `Part` and gives whatever the task's learner takes: for the torch learner
arrays side by side, arrays by name, or a sequence of examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError, resolve


class DataError(PluginError):
    """The data plugin returned nothing that a model can train on."""

    code = "data_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The examples to load: those of device `index` of `count` in a fleet, those in `folder`, or the held-out split.

    `plugin` names who reads them.
    """

    split: Literal["train", "test"] = "train"
    index: int = 0
    count: int = 1
    folder: Path | None = None
    seed: int = 0
    plugin: str = ""

    def __str__(self) -> str:
        place = f"device {self.index} of {self.count}" if self.split == "train" else "the held-out split"
        return place if self.folder is None else f"{place} in {self.folder}"

    def read(self) -> Any:
        """What the data plugin gives for this part. Raises PluginError for a wrong name, DataError where it fails."""
        if not self.plugin:
            raise DataError("no data plugin is named: the policy's `data` or the option --data names one")
        make = resolve(self.plugin)
        try:
            return call(f"data {self.plugin!r} for {self}", make, self)
        except LearnerError as error:
            raise DataError(str(error)) from error
