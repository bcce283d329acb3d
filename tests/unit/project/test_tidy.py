"""The house numbers of style, executed over every tracked file; what lies beside them is not judged."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.judges.style import (
    CLASS_ATTRIBUTES_MAX,
    CLASS_LINES_MAX,
    CLASS_METHODS_MAX,
    FILE_LINES_MAX,
    FILE_LINES_MEDIAN_MAX,
    FOLDER_MODULES_MAX,
    FUNCTION_LINES_MAX,
    FUNCTION_LINES_P90_MAX,
    folder_offences,
    is_imperative,
    is_source,
    offences_of,
    source_offences,
    tracked_files,
)
from tests.root import ROOT


def readable(path: str) -> str | None:
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return None


def test_the_source_is_tidy() -> None:
    """Every file keeps the house numbers; a failure lists all offences at once."""
    texts = {path: text for path in tracked_files() if (text := readable(path)) is not None}
    offences = [offence for path, text in texts.items() for offence in offences_of(path, text)]
    offences += [*folder_offences(list(texts)), *source_offences(texts)]
    assert not offences, f"{len(offences)} offences\n" + "\n".join(offences)


def test_what_is_not_tracked_is_not_judged(tmp_path: Path) -> None:
    """A log of the tests that lies in a checkout may hold a path of this machine."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name in ("module.py", "test.log"):
        (tmp_path / name).write_text("see below\n")
    subprocess.run(["git", "add", "module.py"], cwd=tmp_path, check=True)
    assert tracked_files(tmp_path) == ["module.py"]


def test_every_package_is_installed() -> None:
    """What setuptools finds with pyproject.toml's patterns are the folders that hold modules: no more, no fewer."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {Path(path).parent.as_posix().replace("/", ".") for path in tracked_files() if is_source(path)}
    assert set(find_packages(str(ROOT), include=patterns)) == folders


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for stands in requirements.lock, so that a fresh clone has it (`make lock`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    names = {re.split(r"[\[<>=!~]", requirement)[0].lower() for requirement in asked}
    assert not names - {name.split("[")[0] for name in locked}


def a_class(*, attributes: int = 0, methods: int = 0, lines: int = 0) -> str:
    """Source of a class of this size."""
    stores = "".join(f"        self.a{number} = 0\n" for number in range(attributes))
    defined = "".join(f"    def f{number}(self): ...\n" for number in range(methods))
    return f'"""m"""\nclass A:\n    def __init__(self):\n        x = 0\n{stores}{defined}' + "    y = 0\n" * lines


LONG_FUNCTION = '"""m"""\ndef f():\n' + "    x = 1\n" * FUNCTION_LINES_MAX
MANY_COMMENTS = '"""m"""\n' + "x = 1  # why\n" * 6 + "x = 1\n" * 60

# A `~` is left out of the text, so that this file does not offend itself.
BROKEN = {
    "file too long": ("schemas/a.py", '"""m"""\n' + "x = 1\n" * FILE_LINES_MAX, "lines, at most"),
    "function too long": ("schemas/a.py", LONG_FUNCTION, "f has"),
    "too many parameters": ("schemas/a.py", '"""m"""\ndef f(*, a, b, c, d, e, f): ...\n', "6 parameters"),
    "too many positional": ("schemas/a.py", '"""m"""\ndef f(a, b, c): ...\n', "3 positional"),
    "method too": ("schemas/a.py", '"""m"""\nclass A:\n    def f(self, a, b, c): ...\n', "3 positional"),
    "class too long": ("schemas/a.py", a_class(lines=CLASS_LINES_MAX), "lines, at most 200"),
    "too many methods": ("schemas/a.py", a_class(methods=CLASS_METHODS_MAX), "21 methods"),
    "too many attributes": ("schemas/a.py", a_class(attributes=CLASS_ATTRIBUTES_MAX + 1), "13 attributes"),
    "participle": ("schemas/a.py", '"""m"""\ndef checked(a): ...\n', "no verb"),
    "private participle": ("schemas/a.py", '"""m"""\nclass A:\n    def _told(self): ...\n', "no verb"),
    "no module docstring": ("schemas/a.py", "x = 1\n", "no module docstring"),
    "test without guarantee": ("tests/unit/test_a.py", '"""m"""\ndef test_a(): ...\n', "guarantee"),
    "too many comments": ("schemas/a.py", MANY_COMMENTS, "comments in"),
    "vague name": ("schemas/utils.py", '"""m"""\n', "says nothing"),
    "vague folder": ("docs/common/a.md", "", "says nothing"),
    "open end": ("docs/a.md", "TO~DO: more", "open end"),
    "newer Python": ("schemas/a.py", '"""m"""\ndef f[T](a: T): ...\n', "cannot read"),
    "environment": ("actors/a.py", '"""m"""\nimport os\nx = os.environ["HOME"]\n', "environment"),
    "environment by name": ("actors/a.py", '"""m"""\nfrom os import getenv\n', "environment"),
    "registry": ("Makefile", "pip install -i https://py~pi.org/simple", "registry"),
    "machine path": ("docs/a.md", "see /ho~me/ada/notes", "path of one machine"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tidy_sees_each_offence(case: str) -> None:
    """Each rule finds a file that breaks it, and nothing else in that file."""
    path, text, expected = BROKEN[case]
    found = list(offences_of(path, text.replace("~", "")))
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize("name", ["is_held", "read", "embed", "_feed", "__enter__", "expect", "find_place", "norm_of"])
def test_a_verb_or_a_predicate_is_a_name(name: str) -> None:
    """The rule refuses participles; it does not know every verb, and lets nouns pass."""
    assert is_imperative(name)


def test_a_property_is_named_by_a_participle() -> None:
    """Readers see an attribute: what it is may be said."""
    text = '"""m"""\nclass A:\n    @property\n    def held(self): ...\n'
    assert list(offences_of("schemas/a.py", text)) == []


def test_a_folder_is_looked_through() -> None:
    """Thirteen modules are too many for one folder, in the source and in the tests; `__init__` does not count."""
    full = [f"tests/unit/test_{number}.py" for number in range(FOLDER_MODULES_MAX)]
    assert list(folder_offences([*full, "tests/unit/__init__.py", "tests/unit/a.toml"])) == []
    assert len(list(folder_offences([*full, "tests/unit/a.py"]))) == 1


WITHOUT_REASONS = '"""m"""\n' + "x = 1\n" * 60
LONG_BODIES = '"""m"""\n# why\ndef f():\n' + "    x = 1\n" * (FUNCTION_LINES_P90_MAX + 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WITHOUT_REASONS, "schemas: 0.0 comments"),
        (LONG_BODIES, "one function in ten"),
        ("# why\n" * 6 + "x = 1\n" * FILE_LINES_MEDIAN_MAX, "median file"),
    ],
    ids=["no reasons", "long functions", "long files"],
)
def test_tidy_sees_the_source_as_a_whole(text: str, expected: str) -> None:
    """Numbers over all files have their limits too."""
    [offence] = source_offences({"schemas/a.py": text})
    assert expected in offence
