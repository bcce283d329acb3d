"""The house numbers of style: every offence of a file, a folder or the whole source, as a line that says what to do.

`tests/unit/project/test_tidy.py` runs them over every tracked file.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.root import ROOT

PACKAGES = ("schemas", "streams", "actors", "client_agent", "ops", "fedlog")

PYTHON_OLDEST = (3, 11)
FILE_LINES_MAX = 400
FILE_LINES_MEDIAN_MAX = 120  # of the source
FUNCTION_LINES_MAX = 50
FUNCTION_LINES_P90_MAX = 15  # of the source, docstrings not counted
CLASS_LINES_MAX = 200
CLASS_METHODS_MAX = 20
CLASS_ATTRIBUTES_MAX = 12  # what methods store to `self`
FOLDER_MODULES_MAX = 12  # beside the `__init__`
PARAMETERS_MAX = 5
POSITIONAL_MAX = 2
COMMENTS_PER_100_LINES_MAX = 8
COMMENTS_PER_100_LINES_MIN = 4  # of each package; a short clear file may need none
LINES_BEFORE_COMMENTS_COUNT = 60
# Not `helper`: that is a party, in the tier masked.
VAGUE_NAMES = {"utils", "util", "helpers", "manager", "managers", "common"}
# Settings come from one module; Ray and MKL are told by the environment alone, so what uses them sets that.
ENVIRONMENT_READERS = (
    "ops/settings.py",
    "client_agent/running/ray_session.py",
    "client_agent/learning/pytorch/accelerators.py",
)

# The words of the decider protocol: one runner calls them, always with state, input and what was found out about it.
DICTATED = {"actors/deciders/": {"decide", "evolve"}}

# A function's name says what it does. These first words say what was done, how, or to whom.
NO_VERB = re.compile(
    r"_*(after|another|beside|nobody|of|one|own|past|there|unless|whoever|whole"
    r"|begun|bound|broken|chosen|died|done|drawn|fallen|found|given|gone|heard|held|kept|known|lain|left|lost|made|meant"
    r"|met|paid|said|seen|sent|shown|sought|spent|spoilt|stood|taken|thought|told|wrote|written"
    r"|(?!(bleed|breed|embed|exceed|feed|heed|need|proceed|seed|shed|speed|succeed)(_|$))[a-z]+ed)(_|$)"
)

MARKERS = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
REGISTRIES = re.compile(
    r"pypi\.(org|python)|pythonhosted\.org|maven\.(org|apache)|npmjs\.(org|com)|crates\.io|golang\.org"
    r"|ghcr\.io|quay\.io|docker\.(io|com)|pytorch\.org/whl|deb\.debian\.org"
)
MACHINE_PATHS = re.compile(r"(?<![\w./~$}-])/(home|root|Users|tmp|work|mnt|workspace)/\w")


def tracked_files(root: Path = ROOT) -> list[str]:
    """Paths relative to `root`. A log or a notebook that lies untracked in a checkout may hold whatever it likes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted({path for path in listed.split("\0") if path and (root / path).is_file()})


def is_source(path: str) -> bool:
    # A template of a user's project is data; ruff checks it, and it keeps a user's numbers, not the house's.
    return path.endswith(".py") and "/templates/" not in path and path.startswith(tuple(f"{p}/" for p in PACKAGES))


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
        if is_source(path) and not is_property(function) and not is_imperative(function.name):
            yield f"{where} begins with no verb; say what it does: `find_place`, not `found`"


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether readers see an attribute, whose name is a noun phrase."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    return bool(names & {"property", "cached_property", "setter"})


def is_imperative(name: str) -> bool:
    """Whether the name may begin with a verb in the imperative: nouns pass, participles do not."""
    return NO_VERB.match(name) is None


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


def class_offences(path: str, tree: ast.Module) -> Iterator[str]:
    """Size of every class: what a reader has to hold in mind at once."""
    for found in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        methods = [node for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        measured = {
            "lines": ((found.end_lineno or found.lineno) - found.lineno + 1, CLASS_LINES_MAX),
            "methods": (len(methods), CLASS_METHODS_MAX),
            "attributes": (len(stored_attributes(found)), CLASS_ATTRIBUTES_MAX),
        }
        for what, (count, most) in measured.items():
            if count > most:
                yield f"{path}:{found.lineno}: class {found.name} has {count} {what}, at most {most}; split it"


def stored_attributes(tree: ast.ClassDef) -> set[str]:
    """Names of all that methods store to `self`."""
    stores = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {store.attr for store in stores if isinstance(store.value, ast.Name) and store.value.id == "self"}


def environment_offences(path: str, tree: ast.Module) -> Iterator[str]:
    """Reads of the environment outside the one module that may."""
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(tree):
        read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        imported = isinstance(node, ast.ImportFrom) and node.module == "os" and names & {a.name for a in node.names}
        if (read and node.attr in names) or imported:
            yield f"{path}:{node.lineno}: the environment is read in {ENVIRONMENT_READERS[0]} only"


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
        if is_source(path):
            yield from class_offences(path, tree)
        if is_source(path) and path not in ENVIRONMENT_READERS:
            yield from environment_offences(path, tree)


def folder_offences(paths: list[str]) -> Iterator[str]:
    """Folders with more modules than one looks through."""
    modules = [Path(path) for path in paths if path.endswith(".py") and not path.endswith("__init__.py")]
    for folder, count in sorted(Counter(path.parent.as_posix() for path in modules).items()):
        if count > FOLDER_MODULES_MAX:
            yield f"{folder}:1: {count} modules, at most {FOLDER_MODULES_MAX}; give subjects rooms of their own"


def source_offences(texts: Mapping[str, str]) -> Iterator[str]:
    """What the source is as a whole: length of a typical file, of a long function, and reasons in each package."""
    source = {path: text for path, text in texts.items() if is_source(path)}
    median = statistics.median(len(text.splitlines()) for text in source.values())
    if median > FILE_LINES_MEDIAN_MAX:
        yield f"the median file has {median:g} lines, at most {FILE_LINES_MEDIAN_MAX}"
    lengths = sorted(length for text in source.values() for length in body_lengths(ast.parse(text)))
    if lengths and lengths[len(lengths) * 9 // 10] > FUNCTION_LINES_P90_MAX:
        yield f"one function in ten is longer than {FUNCTION_LINES_P90_MAX} lines"
    for package, density in comment_densities(source).items():
        if density < COMMENTS_PER_100_LINES_MIN:
            yield f"{package}: {density:.1f} comments in 100 lines, at least {COMMENTS_PER_100_LINES_MIN}; say why"


def body_lengths(tree: ast.Module) -> Iterator[int]:
    """Lines of each function's body, its docstring left out."""
    for function, _ in functions(tree):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        yield (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def comment_densities(source: Mapping[str, str]) -> dict[str, float]:
    """Comments in 100 lines of each package."""
    comments, lines = Counter[str](), Counter[str]()
    for path, text in source.items():
        package = path.partition("/")[0]
        comments[package] += len(comment_lines(text))
        lines[package] += len(text.splitlines())
    return {package: 100 * comments[package] / lines[package] for package in sorted(lines)}
