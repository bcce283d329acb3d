"""What in a policy file does not fit its tables: a line for each field at fault, with its place in the file.

Asked only where a file has been refused, to say more than that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from schemas.policy.section import Section
from schemas.policy.sections import Policy

# msgspec's names of types, as people who write TOML know them.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
# What people look for in a policy and what is no decision of the log's: each with the place where it is said.
_ELSEWHERE = {
    **dict.fromkeys(
        ("device", "accelerator", "cuda", "gpu"),
        "what a machine computes with is its owner's choice: give `fedlog run`, `fleet`, `device` or `evaluate` "
        "--accelerator cuda (or mps)",
    ),
    "devices": "how many there are is said where they run, as by `fedlog run --devices`; selection.devices_expected "
    "says for how many the rules are made",
    "seed": "there are several: the table [seeds] has model, split, training and habits",
}
_HEADER = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")


def list_misfits(found: Mapping[str, Any], text: str) -> list[str]:
    """A line for each field at fault; `text` is the file, which `--set` may have changed since."""
    return [f"{_name_place(path, text)}: {problem}" for path, problem in _find_misfits(found, Policy)]


def _find_misfits(
    found: Mapping[str, Any], kind: type[msgspec.Struct], *, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of each field at fault, and what is wrong there."""
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in found.items():
        path = (*place, name)
        if (field := known.get(name)) is None:
            yield path, _describe_unknown(name, known)
        elif (section := _find_section(field.type)) is not None and isinstance(value, Mapping):
            yield from _find_misfits(value, section, place=path)
        else:
            yield from ((path, problem) for problem in _try(value, field.type))
    for name, field in known.items():
        if field.required and name not in found:
            yield (*place, name), "missing, and it has no default"


def _describe_unknown(name: str, known: Mapping[str, Any]) -> str:
    if name in _ELSEWHERE:
        return f"there is no such field; {_ELSEWHERE[name]}"
    close = difflib.get_close_matches(name, known, n=1)
    return "there is no such field" + (f"; did you mean {close[0]}?" if close else "")


def _find_section(kind: Any) -> type[Section] | None:
    """The table that a field is, or may be."""
    kinds = get_args(kind) or (kind,)
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, Section)), None)


def _try(value: Any, kind: Any) -> Iterator[str]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if get_origin(kind) is Literal:
            yield f"{value!r} must be one of {', '.join(map(str, get_args(kind)))}"
            return
        said, _, inside = str(error).partition(" - at `$")
        words = re.sub(r"`([^`]*)`", lambda found: _translate(found[1]), said)
        yield f"{words[0].lower()}{words[1:]}" + (f", in {inside[:-1].lstrip('.')}" if inside else "")


def _translate(kinds: str) -> str:
    return " or ".join(dict.fromkeys(_WORDS.get(kind, kind) for kind in kinds.split(" | ")))


def _name_place(path: tuple[str, ...], text: str) -> str:
    line = _find_line(path, text)
    return ".".join(path) + (f" (line {line})" if line else "")


def _find_line(path: tuple[str, ...], text: str) -> int | None:
    """Where the field, or its table, stands; None where it is written in another way, or nowhere."""
    table, name = ".".join(path[:-1]), re.compile(rf"\s*{re.escape(path[-1])}\s*=")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _HEADER.match(line)) is not None:
            current = header[1]
            if current == ".".join(path):
                return number
        elif current == table and name.match(line):
            return number
    return None
