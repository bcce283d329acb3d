"""Plugins: the callable behind a name `module:callable` in a policy or an option.

Models, data and trainers are named so; fedlog's own and a user's are found in the same way. `resolve` imports what it
is given: whoever has a name from the log asks `allow_list` first.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from schemas.errors import EXIT_USAGE, FedlogError

# Recorded policies and older scripts name modules by the place that they had then, and must resolve for good.
RENAMED_MODULES = {
    "client_agent.examples": "client_agent.learning.examples",
    "client_agent.models": "client_agent.learning.models",
}


class PluginError(FedlogError):
    """A plugin name leads to nothing that can be called; the message says what to change."""

    exit_code = EXIT_USAGE
    code = "plugin_invalid"


def find_present_name(plugin: str) -> str:
    """`plugin` with its module where that is now: two names of one callable become one."""
    module, colon, name = plugin.partition(":")
    return f"{RENAMED_MODULES.get(module, module)}{colon}{name}"


def require_modules(plugins: Mapping[str, str]) -> None:
    """Nothing where the modules of these plugins, by field, can be found; none is imported. Raises PluginError."""
    for field, plugin in plugins.items():
        # A Flower app lives in an environment of its own.
        if not field.endswith(".app"):
            _require_module(plugin)


def _require_module(plugin: str) -> None:
    top = find_present_name(plugin).partition(":")[0].partition(".")[0]
    # A module that is loaded need not be anywhere: a notebook's own has no file.
    if top in sys.modules:
        return
    _look_here()
    found = importlib.util.find_spec(top) if top else None
    if found is None:
        raise PluginError(_describe_unimportable(plugin, f"No module named {top!r}"))


def resolve(plugin: str) -> Callable[..., Any]:
    """The callable that `plugin` names, also in a module of the current directory. Raises PluginError."""
    module_name, colon, name = find_present_name(plugin).partition(":")
    if not (module_name and colon and name):
        raise PluginError(f"{plugin!r} must be 'module:callable', for instance 'my_model:make'")
    _look_here()
    try:
        # What it prints is for people; on standard output a program may be reading.
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    # sys.exit too: a script without a guard must not end what serves other tasks.
    except (Exception, SystemExit) as error:
        reason = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else error
        raise PluginError(_describe_unimportable(plugin, reason)) from error
    target = getattr(module, name, None)
    if not callable(target):
        raise PluginError(f"{plugin!r}: {module.__file__} defines no callable {name!r}")
    return target  # type: ignore[no-any-return]


def _look_here() -> None:
    """Have modules of the current folder found."""
    # At the end of the path, so that a user's file never hides a module of fedlog or of a library.
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)


def _describe_unimportable(plugin: str, reason: object) -> str:
    module = find_present_name(plugin).partition(":")[0]
    return (
        f"{plugin!r}: module {module!r} cannot be imported ({reason}); run from the folder that holds it, or install "
        "it into this environment"
    )
