"""A project out of a template: every file, with the project's name for the template's."""

from __future__ import annotations

import importlib.util
import keyword
import shutil
from pathlib import Path

from ops.operator.errors import ProjectRefused
from ops.operator.tasks import NAME

TEMPLATES = Path(__file__).with_name("templates")
# What stands for the project's name in a template: in names of files, in imports, and in the policy's plugins.
PLACEHOLDER = "mytask"


def list_templates() -> list[str]:
    """Their names."""
    return sorted(path.name for path in TEMPLATES.iterdir() if (path / "policy.toml").is_file())


def make_project(name: str, template: str, *, folder: Path) -> list[Path]:
    """Write the files of a template into `folder`, which must be new or empty; their paths. Raises ProjectRefused."""
    if template not in (known := list_templates()):
        raise ProjectRefused(f"There is no template {template!r}: one of {', '.join(known)}.")
    module = _name_module(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectRefused(f"{folder} is there already and not empty: choose another name.")
    # Beside it first, so that a full disk leaves no half of a project.
    scratch = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    for source in _list_files(TEMPLATES / template):
        target = scratch / source.as_posix().replace(PLACEHOLDER, module)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((TEMPLATES / template / source).read_text().replace(PLACEHOLDER, module))
    if folder.exists():
        folder.rmdir()
    scratch.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _name_module(name: str) -> str:
    """The module that the policy of this project names. Raises ProjectRefused where it cannot be found by that name."""
    module = name.replace("-", "_")
    if not NAME.fullmatch(name) or not module.isidentifier() or keyword.iskeyword(module):
        raise ProjectRefused(
            f"{name!r} is no name for a project: lower-case letters, digits and dashes, a letter first."
        )
    # The current folder is searched last: a library of that name would be found in its place.
    if importlib.util.find_spec(module) is not None:
        raise ProjectRefused(
            f"A module {module!r} is installed here, and would be imported instead: choose another name."
        )
    return module


def _list_files(template: Path) -> list[Path]:
    """Relative paths; what Python and editors left beside them is no part of a template."""
    paths = (path.relative_to(template) for path in template.rglob("*") if path.is_file())
    return sorted(path for path in paths if path.suffix in (".py", ".toml", ".md") and "__pycache__" not in path.parts)
