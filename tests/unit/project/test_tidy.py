"""The house numbers of style, executed over every file that git knows or would add."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.root import ROOT

PACKAGES = ("schemas", "streams", "actors", "client_agent", "ops")

PYTHON_OLDEST = (3, 11)
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 5
POSITIONAL_MAX = 2
COMMENTS_PER_100_LINES_MAX = 8
COMMENTS_PER_100_LINES_MIN = 1  # over the whole source; a short clear file may need none
LINES_BEFORE_COMMENTS_COUNT = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common"}
ENVIRONMENT_READER = "ops/settings.py"

# The words of the decider protocol: one runner calls them, always with state, input and what was found out about it.
DICTATED = {"actors/deciders/": {"decide", "evolve"}}

MARKERS = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
REGISTRIES = re.compile(
    r"pypi\.(org|python)|pythonhosted\.org|maven\.(org|apache)|npmjs\.(org|com)|crates\.io|golang\.org"
    r"|ghcr\.io|quay\.io|docker\.(io|com)|pytorch\.org/whl|deb\.debian\.org"
)
MACHINE_PATHS = re.compile(r"(?<![\w./~$}-])/(home|root|Users|tmp|work|mnt|workspace)/\w")


def known_files() -> Iterator[str]:
    """Paths of all files that are tracked, or would be after `git add`, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    yield from sorted({path for path in listed.split("\0") if path and (ROOT / path).is_file()})


def is_source(path: str) -> bool:
    return path.endswith(".py") and path.startswith(tuple(f"{package}/" for package in PACKAGES))


def text_offences(path: str, text: str) -> Iterator[str]:
    """What no file may hold, whatever its language."""
    for number, line in enumerate(text.splitlines(), start=1):
        if MARKERS.search(line):
            yield f"{path}:{number}: an open end; finish it or write it down as an issue"
        if REGISTRIES.search(line):
            yield f"{path}:{number}: the host of a registry; every machine brings its own"
        if MACHINE_PATHS.search(line):
            yield f"{path}:{number}: a path of one machine"


def name_offences(path: str) -> Iterator[str]:
    """Names that say nothing about what is inside."""
    for part in Path(path).with_suffix("").parts:
        if part in VAGUE_NAMES:
            yield f"{path}:1: `{part}` says nothing; name what it holds"


def module_offences(path: str, text: str, tree: ast.Module) -> Iterator[str]:
    """Length, docstring and density of comments of one module."""
    lines = len(text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{path}:{lines}: {lines} lines, at most {FILE_LINES_MAX}"
    if not ast.get_docstring(tree):
        yield f"{path}:1: no module docstring"
    comments = len(comment_lines(text))
    if is_source(path) and lines > LINES_BEFORE_COMMENTS_COUNT and comments * 100 > COMMENTS_PER_100_LINES_MAX * lines:
        yield f"{path}:1: {comments} comments in {lines} lines, at most {COMMENTS_PER_100_LINES_MAX} in 100"


def comment_lines(text: str) -> list[int]:
    """Numbers of the lines that carry a comment for people; directives to tools do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    directive = re.compile(r"#\s*(noqa|type:|pragma|fmt:|ruff:|mypy:)")
    return [t.start[0] for t in tokens if t.type == tokenize.COMMENT and not directive.match(t.string)]


def functions(
    tree: ast.AST, *, in_class: bool = False
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Every function of a tree, each with whether it is a method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, in_class
        yield from functions(node, in_class=isinstance(node, ast.ClassDef))


def function_offences(path: str, tree: ast.Module) -> Iterator[str]:
    """Length and parameters of every function, and the docstring of every test."""
    for function, is_method in functions(tree):
        where = f"{path}:{function.lineno}: {function.name}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{where} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        if path.startswith("tests/") and function.name.startswith("test_") and not ast.get_docstring(function):
            yield f"{where} does not say which guarantee it holds"
        if is_source(path) and not signature_is_dictated(path, function):
            yield from parameter_offences(where, function, is_method=is_method)


def parameter_offences(
    where: str, function: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool
) -> Iterator[str]:
    decorators = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
    bound = int(is_method and "staticmethod" not in decorators)
    positional = len(function.args.posonlyargs) + len(function.args.args) - bound
    parameters = positional + len(function.args.kwonlyargs)
    if parameters > PARAMETERS_MAX:
        yield f"{where} takes {parameters} parameters, at most {PARAMETERS_MAX}"
    if positional > POSITIONAL_MAX:
        yield f"{where} takes {positional} positional parameters, keyword-only after {POSITIONAL_MAX}"


def signature_is_dictated(path: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Python dictates special methods; a console command's parameters are its options, given by name."""
    special = function.name.startswith("__") and function.name.endswith("__")
    called = [d.func for d in function.decorator_list if isinstance(d, ast.Call)]
    command = any(isinstance(f, ast.Attribute) and f.attr in ("command", "callback") for f in called)
    in_commands = (
        path.startswith("ops/terminal/commands/") and function.col_offset == 0 and not function.name.startswith("_")
    )
    by_protocol = any(path.startswith(folder) and function.name in names for folder, names in DICTATED.items())
    return special or command or in_commands or by_protocol


def environment_offences(path: str, tree: ast.Module) -> Iterator[str]:
    """Reads of the environment outside the one module that may."""
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(tree):
        read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        imported = isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names}
        if (read and node.attr in names) or imported:
            yield f"{path}:{node.lineno}: the environment is read in {ENVIRONMENT_READER} only"


def offences_of(path: str, text: str) -> Iterator[str]:
    """Everything wrong with one file."""
    yield from name_offences(path)
    yield from text_offences(path, text)
    if path.endswith(".py"):
        try:
            tree = ast.parse(text, filename=path, feature_version=PYTHON_OLDEST)
        except SyntaxError as error:
            yield f"{path}:{error.lineno}: Python 3.11 cannot read this: {error.msg}"
            return
        yield from module_offences(path, text, tree)
        yield from function_offences(path, tree)
        if is_source(path) and path != ENVIRONMENT_READER:
            yield from environment_offences(path, tree)


def readable(path: str) -> str | None:
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return None


def test_the_source_is_tidy() -> None:
    """Every file keeps the house numbers; a failure lists all offences at once."""
    texts = {path: text for path in known_files() if (text := readable(path)) is not None}
    offences = [offence for path, text in texts.items() for offence in offences_of(path, text)]
    source = [text for path, text in texts.items() if is_source(path)]
    comments = sum(len(comment_lines(text)) for text in source)
    lines = sum(len(text.splitlines()) for text in source)
    if comments * 100 < COMMENTS_PER_100_LINES_MIN * lines:
        offences.append(f"{comments} comments in {lines} lines: somewhere a reason is missing")
    assert not offences, f"{len(offences)} offences\n" + "\n".join(offences)


def test_every_package_is_installed() -> None:
    """What setuptools finds with pyproject.toml's patterns are the folders that hold modules: no more, no fewer."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {Path(path).parent.as_posix().replace("/", ".") for path in known_files() if is_source(path)}
    assert set(find_packages(str(ROOT), include=patterns)) == folders


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for stands in requirements.lock, so that a fresh clone has it (`make lock`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    names = {re.split(r"[\[<>=!~]", requirement)[0].lower() for requirement in asked}
    assert not names - {name.split("[")[0] for name in locked}


LONG_FUNCTION = '"""m"""\ndef f():\n' + "    x = 1\n" * FUNCTION_LINES_MAX
MANY_COMMENTS = '"""m"""\n' + "x = 1  # why\n" * 6 + "x = 1\n" * 60

# A `~` is left out of the text, so that this file does not offend itself.
BROKEN = {
    "file too long": ("schemas/a.py", '"""m"""\n' + "x = 1\n" * FILE_LINES_MAX, "lines, at most"),
    "function too long": ("schemas/a.py", LONG_FUNCTION, "f has"),
    "too many parameters": ("schemas/a.py", '"""m"""\ndef f(*, a, b, c, d, e, f): ...\n', "6 parameters"),
    "too many positional": ("schemas/a.py", '"""m"""\ndef f(a, b, c): ...\n', "3 positional"),
    "method too": ("schemas/a.py", '"""m"""\nclass A:\n    def f(self, a, b, c): ...\n', "3 positional"),
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
