"""The digest of the code behind a policy's plugins: what trains is part of the record."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path

from client_agent.learning.flower.apps import hash_app
from client_agent.learning.plugins import resolve
from schemas.events import TaskCreated
from schemas.identifiers import Sha256
from schemas.policy import FLOWER_APP, Policy


def hash_sources(policy: Policy) -> dict[str, Sha256]:
    """The sha256 of each plugin's source by its name: of its module's file, or a Flower app's. Raises PluginError."""
    # The files alone: what they import is pinned by the environment, which a digest of source could not vouch for.
    return {plugin: _hash_source(plugin) for plugin in dict.fromkeys(policy.list_plugins().values())}


def list_differences(created: TaskCreated) -> list[str]:
    """The plugins whose source here is not the one that the operator had. Imports them: they must be allowed."""
    # Only what the policy names was asked for: a record could name sources of anything, which would be imported here.
    here = hash_sources(created.policy)
    differing = [plugin for plugin, digest in here.items() if created.sources.get(plugin) != digest]
    return [*differing, *sorted(created.sources.keys() - here.keys())]


def _hash_source(plugin: str) -> Sha256:
    return hash_app(plugin) if plugin.startswith(FLOWER_APP) else _hash_module(plugin)


def _hash_module(plugin: str) -> Sha256:
    target = resolve(plugin)
    module = sys.modules.get(plugin.partition(":")[0]) or inspect.getmodule(target)
    file = getattr(module, "__file__", None)
    # A module without a file, such as a compiled one, is known by its name alone.
    data = Path(file).read_bytes() if file else plugin.encode()
    return hashlib.sha256(data).digest()
