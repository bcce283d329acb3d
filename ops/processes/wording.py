"""How advice names an option: in the words of whoever called, a command in a terminal or a library in a program."""

from __future__ import annotations

from enum import Enum

_IN_PYTHON = {
    "name": 'name="{}"',
    "devices": "devices={}",
    "set": 'changes=["{}"]',
    "deterministic": "deterministic=True",
    "accelerator": "accelerator",
    # The settings are the environment's there, as it was when the call was made.
    "folder": "FEDLOG_FOLDER in the environment",
    "bootstrap-servers": "FEDLOG_BOOTSTRAP_SERVERS in the environment",
}


class Wording(Enum):
    """Who reads the advice."""

    TERMINAL = "terminal"
    PYTHON = "python"

    def name_option(self, option: str, value: object = "") -> str:
        """`--name rings-2` or `name="rings-2"`. Raises KeyError for an option that only commands have."""
        if self is Wording.TERMINAL:
            return f"--{option} {value}".rstrip()
        return _IN_PYTHON[option].format(value)
