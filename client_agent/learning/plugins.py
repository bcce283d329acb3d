"""Plug points: a name `module:callable` in a policy or an option, and the callable that it names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import EXIT_USAGE, FedlogError

# Policies in old journals, and options in old scripts, name what came with fedlog where it stood then.
MOVED = {
    "client_agent.examples": "client_agent.learning.examples",
    "client_agent.models": "client_agent.learning.models",
    "client_agent.training": "client_agent.learning.classification",
}


class PlugError(FedlogError):
    """A plug point names nothing that can be called; the message says what to change."""

    exit_code = EXIT_USAGE
    code = "plug_invalid"


def resolve(plug: str) -> Callable[..., Any]:
    """The callable that `plug` names; modules of the current directory count. Raises PlugError."""
    module_name, colon, name = plug.partition(":")
    if not (module_name and colon and name):
        raise PlugError(f"{plug!r} must be 'module:callable', for instance 'my_model:make'")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(MOVED.get(module_name, module_name))
    except ImportError as error:
        raise PlugError(
            f"{plug!r}: module {module_name!r} cannot be imported ({error}); run from the folder that holds it, "
            "or install it into this environment"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise PlugError(f"{plug!r}: {module.__file__} defines no callable {name!r}")
    return found  # type: ignore[no-any-return]
