"""The commands of `fedlog` by name, each imported when somebody asks for it: one is used, and thirty take a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
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
    made = typer.main.get_group(holder).commands[name]
    for each in (made, *getattr(made, "commands", {}).values()):
        spare_checks(each.params)
        each.get_help_option = partial(_find_help, each.get_help_option)
    return made


def spare_checks(params: Iterable[Any]) -> None:
    """Let text, and what was not given, pass as it is: typer loads pydantic, for a tenth of a second, to look at it."""
    for param in params:
        # Where typer keeps this elsewhere nothing is spared, and nothing else changes.
        if getattr(param, "_runtime_param", "") is None:
            param._runtime_param = _Unchecked(param)


def _find_help(find: Callable[[Any], Any], ctx: Any) -> Any:
    option = find(ctx)
    spare_checks([option] if option is not None else ())
    return option


@dataclass(frozen=True, slots=True)
class _Unchecked:
    """In place of typer's check of one parameter, which it makes when there is something to check."""

    param: Any

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """The value as its command wants it. Raises what typer raises."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(value, str) and param.type_descriptor.annotation is str:
            return value
        self.param._runtime_param = None
        return self.param.get_runtime_param().coerce(value, param=param, ctx=ctx)
