"""What of the code that the log names may run here: what the machine's owner said, and what comes with fedlog.

A policy stands in the log and names its model as a plugin. `Device` and the evaluator ask here before anything of it is
imported; `fedlog task create` does not, because there the policy is the caller's own file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Self

from client_agent.learning.flower.apps import is_app_name
from client_agent.learning.plugins import PluginError, find_present_name
from schemas.policy import FLOWER_LEARNER, FLOWER_QUERY, Policy

# An installed package that offers models for policies names them in this group of entry points.
GROUP = "fedlog.plugins"
_MODELS = ("softmax_regression", "simple_cnn", "resnet18")
_DATA = ("digits", "folder_npz")
_QUESTIONS = ("evaluate", "histogram", "describe_columns")
BUILT_IN = frozenset(
    [f"client_agent.learning.models:{name}" for name in _MODELS]
    + [f"client_agent.learning.examples:{name}" for name in _DATA]
    # It runs nothing but the app that the policy names beside it, which is asked for by its own name.
    + [FLOWER_LEARNER, FLOWER_QUERY, "client_agent.learning.flower:part"]
    # They run nothing that the policy names beyond what has to be allowed itself.
    + [f"client_agent.learning.measuring.questions:{name}" for name in _QUESTIONS]
)

# Nothing else is repeated as part of a command that a person may copy into a shell.
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,200}")


class PluginNotAllowed(PluginError):
    """The log names code that this machine may not run; the message has the command that would allow it."""

    code = "plugin_not_allowed"


def is_built_in(plugin: str) -> bool:
    """Whether it names a model or data that come with fedlog."""
    return find_present_name(plugin) in BUILT_IN


def is_plugin_name(text: str) -> bool:
    """Whether it reads `module:callable`, with plain names, or `flower-app:NAME`."""
    return _PLAIN_NAME.fullmatch(text) is not None or is_app_name(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """The plugins that may run although the log names them. `command`: what the owner typed, for messages."""

    names: frozenset[str] = frozenset()
    command: str = "fedlog device"

    def including(self, *plugins: str) -> Self:
        """With what the owner named in other options, and trusts for that reason."""
        return replace(self, names=self.names | set(plugins))

    def check_policy(self, policy: Policy) -> None:
        """Nothing where all that the policy names may run. Raises PluginNotAllowed, with all that is missing."""
        refused = {field: plugin for field, plugin in policy.list_plugins().items() if not self._may_run(plugin)}
        if not refused:
            return
        field, plugin = next(iter(refused.items()))
        if unreadable := [name for name in refused.values() if not is_plugin_name(name)]:
            raise PluginNotAllowed(f"the task names {unreadable[0][:100]!r}, which is no module:callable")
        wanted = " ".join(f"--allow {name}" for name in dict.fromkeys(refused.values()))
        raise PluginNotAllowed(
            f"the task names {plugin!r} as its {field}, which this machine may not run: nothing of it was imported. "
            f"If you trust that code, start again with: {self.command} {wanted}"
        )

    def _may_run(self, plugin: str) -> bool:
        name = find_present_name(plugin)
        return is_built_in(plugin) or name in map(find_present_name, self.names) or name in _find_installed()


# Kept, because a device asks once a lease, and what is installed does not change under a running process.
@cache
def _find_installed() -> frozenset[str]:
    """The plugins that installed packages offer; reads their metadata and imports none of them."""
    return frozenset(f"{entry.module}:{entry.attr}" for entry in entry_points(group=GROUP))
