"""What the documents name exists: fields with their bounds, commands with their options, files, and links."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import click
import msgspec
import pytest
import typer

from actors.hosts import metrics
from actors.wiring import ROLES
from ops.doctor import exposition
from ops.gateway.access.watching import Books
from ops.history.levels import ServiceLevels
from ops.settings import ENVIRONMENT
from ops.terminal.cli import app
from ops.web.access import watching
from schemas.policy import BOUNDS, Policy
from schemas.topics import CATALOGUE
from tests.judges.style import is_source
from tests.root import ROOT

POLICY = (ROOT / "docs" / "policy.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
ARCHITECTURE_LINES_MAX = 120
DECISION_LINES_MAX = 45
LINE_CHARACTERS_MAX = 120
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

# A command in a fenced or indented block, with or without a prompt, or in backticks within a sentence.
COMMAND = re.compile(r"^(?:    |\$ )fedlog ([^#\n]+)|`fedlog ([^`\n]+)`", re.MULTILINE)
PATH = re.compile(r"`((?:schemas|streams|actors|client_agent|ops|tests|docs)/[\w./-]*|\.importlinter)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def sections() -> Iterator[tuple[str, type[Any]]]:
    """Each table of the policy, with its type; an optional one without its None."""
    for name, hint in get_type_hints(Policy).items():
        kinds = [kind for kind in (hint, *getattr(hint, "__args__", ())) if isinstance(kind, type)]
        struct = next((kind for kind in kinds if issubclass(kind, msgspec.Struct)), None)
        if struct is not None:
            yield name, struct


def written(number: Any) -> str:
    """A bound or a default as the page writes it."""
    if number is msgspec.UNSET:
        return "none"
    if abs(number) == sys.float_info.max:
        return "any finite number"
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"


def rows(title: str) -> dict[str, list[str]]:
    """The rows of a section's table: field -> its cells."""
    text = POLICY.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "| `" in line]
    return {row[0].strip("| `"): row[1:] for row in cells}


@pytest.mark.parametrize("path", BOUNDS)
def test_every_bound_of_the_policy_is_told(path: str) -> None:
    """A field's row gives both of its bounds, as numbers, and its default."""
    section, name = path.split(".")
    _, default, bounds, meaning = rows(f"[{section}]")[name]
    low, high = (written(bound) for bound in BOUNDS[path])
    assert bounds == (high if low == high else f"{low} … {high}")
    fields = {field.name: field for field in msgspec.structs.fields(dict(sections())[section])}
    is_required = fields[name].default is msgspec.NODEFAULT
    assert default == ("required" if is_required else written(fields[name].default))
    assert meaning


def test_every_field_of_the_policy_is_told() -> None:
    """No field is missing from the page, and none stands there that the policy does not have."""
    nested = dict(sections())
    for name, struct in nested.items():
        assert set(rows(f"[{name}]")) == {field.name for field in msgspec.structs.fields(struct)}
    assert set(rows("The top of the file")) == {field.name for field in msgspec.structs.fields(Policy)} - nested.keys()


def commands() -> list[str]:
    """Every `fedlog …` of every document, once."""
    found = {(one or other).strip() for path in DOCUMENTS for one, other in COMMAND.findall(path.read_text())}
    return sorted(found)


def known_options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_documents_exists(line: str) -> None:
    """Each command, subcommand and option that a document names is one that `fedlog` has."""
    root: Any = typer.main.get_command(app)
    command, options = root, known_options(root)
    for word in shlex.split(line.replace("…", "VALUE")):
        if word == "|":
            break
        if word.startswith("--"):
            assert word.partition("=")[0] in {*options, "--help"}, word
        elif hasattr(command, "commands"):
            assert word in command.commands, word
            command = command.commands[word]
            options |= known_options(command)


def test_the_architecture_fits_on_a_few_screens() -> None:
    """A newcomer reads all of it."""
    assert len(ARCHITECTURE.splitlines()) <= ARCHITECTURE_LINES_MAX


def test_a_decision_fits_on_one_screen() -> None:
    """Context, decision, consequences and how it was tried; figures belong to the pages that measure."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert {name: length for name, length in lengths.items() if length > DECISION_LINES_MAX} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    """A file that was moved takes its mention along; so does the target of a link."""
    text = document.read_text()
    named = [ROOT / path for path in PATH.findall(text)]
    linked = [document.parent / link for link in LINK.findall(text) if "://" not in link]
    assert [path.as_posix() for path in (*named, *linked) if not path.exists()] == []


def modules() -> list[Path]:
    """Every module of every package, but the `__init__` of its folder."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [Path(path) for path in listed.split() if is_source(path)]
    return [path for path in paths if path.name != "__init__.py"]


def test_the_map_of_the_code_leaves_no_folder_out() -> None:
    """Every folder that holds modules stands in ARCHITECTURE.md."""
    folders = sorted({path.parent.as_posix() for path in modules()})
    assert [folder for folder in folders if f"`{folder}/`" not in ARCHITECTURE] == []


def test_every_folder_says_what_its_modules_are_for() -> None:
    """The docstring of a folder's `__init__` names each module that stands in it."""
    told = {path: ast.get_docstring(ast.parse((ROOT / path.parent / "__init__.py").read_text())) for path in modules()}
    assert [path.as_posix() for path, text in told.items() if f"`{path.stem}`" not in (text or "")] == []


def test_every_topic_is_in_the_reference() -> None:
    """The table of topics has each, with its only writer."""
    writers = {topic.name: topic.writer for topic in CATALOGUE}
    assert {name: writer for name, writer in writers.items() if f"| `{name}` | {writer} |" not in REFERENCE} == {}


def leaves(command: Any, path: str = "fedlog") -> Iterator[str]:
    """Every command that does something, with the words that lead to it."""
    if not hasattr(command, "commands"):
        yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, f"{path} {name}")


def test_every_command_and_variable_is_in_the_reference() -> None:
    """The page names each command, and each option that is an environment variable too."""
    named = [*leaves(typer.main.get_command(app)), *(f"--{name.replace('_', '-')}" for name in ENVIRONMENT.values())]
    assert [name for name in named if f"`{name}`" not in REFERENCE] == []


def test_a_word_that_a_document_links_is_in_the_glossary() -> None:
    """Every link into the glossary meets its row, and each word has one row of one line."""
    words = re.findall(r'^\| <a id="([\w-]+)"></a>', (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    linked = {word for path in DOCUMENTS for word in re.findall(r"glossary\.md#([\w-]+)", path.read_text())}
    assert len(words) == len(set(words)) == 31
    assert linked <= set(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_line_of_prose_fits_the_screen(document: Path) -> None:
    """Lines have at most 120 characters; rows of tables, links and printed output cannot be wrapped."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in prose.splitlines() if len(line) > LINE_CHARACTERS_MAX and not line.startswith("|")]
    assert lines == []


def test_every_metric_is_in_the_operations_page() -> None:
    """The page names what a worker serves, under the name that Prometheus sees, and nothing else."""
    page = (ROOT / "docs" / "operations.md").read_text()
    workers = [metrics.WorkerMetrics() for _ in (*ROLES, "shard")]
    for worker, role in zip(workers, ROLES.values(), strict=False):
        metrics.ActorMetrics(role, worker.instruments)
    metrics.ShardMetrics(workers[-1].instruments)
    makers = [*(worker.instruments for worker in workers), Books().instruments, ServiceLevels().instruments]
    makers.append(watching.Books().instruments)
    served = [metric for maker in makers for metric in maker.registry.collect()]
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in served}
    names |= set(exposition.METRICS)
    assert set(re.findall(r"fedlog_\w+", page)) == names


def test_every_test_that_holds_an_attack_exists() -> None:
    """The page of attacks names what tries them; a test that was renamed or dropped would leave a promise to nobody."""
    page = (ROOT / "docs" / "threats.md").read_text()
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z_0-9]+)`", page)
    assert len(named) > 30
    assert [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text()] == []
