"""Executes docs/python.md as a notebook: each block is a cell, in a kernel of fedlog's own environment.

    build/notebook/bin/python tests/trials/notebook.py .venv/bin/python [NOTEBOOK]

A notebook that is named is executed instead, among the examples.

nbclient runs here, and ipykernel is lent to fedlog's environment by its path alone, so that this is left as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


def write_kernel(folder: Path, python: str) -> None:
    """A kernel that runs fedlog's interpreter, with the packages of this one behind its own."""
    lent = str(Path(metadata.distribution("ipykernel").locate_file("")))
    start = f"import sys; sys.path.append({lent!r}); from ipykernel import kernelapp; kernelapp.launch_new_instance()"
    kernel = folder / "kernels" / "fedlog"
    kernel.mkdir(parents=True)
    told = {"argv": [python, "-c", start, "-f", "{connection_file}"], "display_name": "fedlog", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(told))


def main() -> int:
    """Run every cell; 1 where one fails, or shows no progress or no picture in its cell."""
    python = str(Path(sys.argv[1]).absolute())
    if len(sys.argv) > 2:
        return _run_file(Path(sys.argv[2]), python)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    # A cell of its own for what a notebook can and a script cannot.
    blocks.append("import asyncio\nlist([1 async for _ in task.follow_async()]) if False else await asyncio.sleep(0)")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
    outputs = _execute(notebook, python)
    # Shown in place: one panel, which says at the end what is so at the end.
    panels = [output["data"] for output in outputs if output.output_type == "display_data"]
    sys.stdout.write("".join(panel["text/plain"] for panel in panels))
    return 0 if len(panels) == 1 and "2 of 2" in panels[0]["text/html"] else 1


def _run_file(path: Path, python: str) -> int:
    # A command that fails in a cell is no error of the cell: what it should have drawn is then missing.
    outputs = _execute(nbformat.read(path, as_version=4), python)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return 0 if pictures and len(pictures) == path.read_text().count("Image(") else 1


def _execute(notebook: nbformat.NotebookNode, python: str) -> list[nbformat.NotebookNode]:
    """What its cells show, in a folder of its own with the example of the rings. Raises where a cell fails."""
    with tempfile.TemporaryDirectory() as folder:
        write_kernel(Path(folder), python)
        for name in ("rings.py", "rings.toml"):
            shutil.copy(ROOT / "docs" / "examples" / name, folder)
        # Cells call `fedlog` as somebody does whose environment is active.
        path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.update(JUPYTER_PATH=folder, PATH=path)
        client = NotebookClient(notebook, timeout=300, kernel_name="fedlog", resources={"metadata": {"path": folder}})
        client.kernel_manager_class.kernel_spec_manager = KernelSpecManager(kernel_dirs=[f"{folder}/kernels"])
        client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    sys.stdout.write("".join(output.get("text", "") for output in outputs))
    return outputs


if __name__ == "__main__":
    sys.exit(main())
