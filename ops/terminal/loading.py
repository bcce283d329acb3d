"""The commands of `fedlog` by name, each imported when somebody asks for it: one is used, and thirty take a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer


class LoadedCommands(MutableMapping[str, Any]):
    """Commands and groups of commands, made of what stands at `MODULE:NAME` below a package once they are asked for."""

    def __init__(self, places: Mapping[str, str], *, package: str) -> None:
        self._places, self._package = dict(places), package
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, self._find(name))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        # Asking by way of the item, as a mapping does by default, would import it.
        return name in self._places

    def __setitem__(self, name: str, command: Any) -> None:
        self._places[name], self._made[name] = "", command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _find(self, name: str) -> Any:
        module, _, attribute = self._places[name].partition(":")
        return getattr(import_module(f"{self._package}.{module}"), attribute)


def _make(name: str, found: typer.Typer | Callable[..., None]) -> Any:
    """What click runs, under that name."""
    holder = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    # The group even of a single command: typer's own way in would take its only command for the whole program.
    return typer.main.get_group(holder).commands[name]
