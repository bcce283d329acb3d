"""New projects: each template becomes a folder that works under a name of its own."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

from ops.operator.errors import ProjectRefused
from ops.operator.projects.making import PLACEHOLDER, TEMPLATES, list_templates, make_project
from schemas.policy import parse
from tests.worlds.flower_apps.copies import give_environment

USER_LINES_MAX = 30
NAMES = ["flower", "lora", "numpy", "regression", "sklearn", "timeseries", "torch"]


def test_the_templates_are_those_of_the_help() -> None:
    """Guarantee: what `fedlog new --help` names is there, and nothing else."""
    assert list_templates() == NAMES


@pytest.mark.parametrize("template", NAMES)
def test_a_project_reaches_its_own_score(template: str, tmp_path: Path) -> None:
    """Guarantee: each template, copied, passes the test that comes with it: trained here it reaches its target."""
    name = f"try-{template}"
    folder = tmp_path / name
    files = make_project(name, template, folder=folder)
    assert not [file for file in files if PLACEHOLDER in f"{file}" or PLACEHOLDER in file.read_text()]
    assert parse((folder / "policy.toml").read_text()).stop.target_metric
    if template == "flower":
        give_environment(folder, "flower-apps")
    own = runpy.run_path(str(folder / f"test_try_{template}.py"))
    own["test_the_target_of_the_policy_is_reached"]()


@pytest.mark.parametrize("template", NAMES)
def test_a_template_is_short(template: str) -> None:
    """Guarantee: a first project is at most thirty lines of a user's code, without comments and docstrings."""
    paths = [path for path in (TEMPLATES / template).rglob("*.py") if not path.name.startswith("test_")]
    assert sum(count_lines(path.read_text()) for path in paths) <= (USER_LINES_MAX if template != "flower" else 40)


def count_lines(text: str) -> int:
    """Lines of code."""
    tree = ast.parse(text)
    docstrings = [
        node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    told = sum((node.end_lineno or 0) - node.lineno + 1 for node in docstrings)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines()) - told


def test_what_cannot_be_a_project_is_told(tmp_path: Path) -> None:
    """Guarantee: a full folder, an installed module's name, a wrong name or template write nothing."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for name, template, folder, told in (
        ("full", "torch", full, "not empty"),
        ("numpy", "torch", tmp_path / "numpy", "'numpy' is installed"),
        ("My Task", "torch", tmp_path / "x", "no name for a project"),
        ("class", "torch", tmp_path / "x", "no name for a project"),
        ("mine", "keras", tmp_path / "x", "no template 'keras': one of flower, lora"),
    ):
        with pytest.raises(ProjectRefused, match=told):
            make_project(name, template, folder=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert (full / "mine.txt").read_text() == "mine"
