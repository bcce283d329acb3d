"""What is drawn is what was asked for, and the same numbers give the same file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ops.history.plots.figures import PANELS, NoPicture, draw_ancestry, draw_comparison, draw_series
from ops.history.plots.series import Branch, Life, Series

RINGS = Series(
    "rings", "accuracy", [0, 1, 2], [0, 8, 17], [0, 90, 300], [0.1, 0.5, 0.9], [1, 2], [0, 1], [1, 3], [2, 1, 0]
)
EMPTY = Series("fresh", "", [], [], [], [], [], [], [], [])


def test_a_command_in_a_cell_of_a_notebook_draws_too(tmp_path: Path) -> None:
    """Guarantee: the backend that a notebook names in the environment is none of a command's business."""
    code = "import sys; from pathlib import Path; from ops.history.plots import figures as drawn; "
    code += "drawn.require_drawable(Path(sys.argv[1]))"
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "rings.png")], env=environment, check=False)
    assert done.returncode == 0


def test_lines_have_the_numbers_of_the_series(tmp_path: Path) -> None:
    """Guarantee: each panel draws its own column, time in a unit that a person reads."""
    figure = draw_series([RINGS, EMPTY], tmp_path / "rings.png")
    drawn = {axes.get_xlabel(): axes.lines for axes in figure.axes if axes.get_xlabel()}
    for label, along in {
        "version": [0, 1, 2],
        "uploads, refused ones too": [0, 8, 17],
        "time since creation, minutes": [0.0, 1.5, 5.0],
    }.items():
        line = drawn[label][0] if label != "version" else figure.axes[0].lines[0]
        assert [*line.get_xdata()] == along
        assert [*line.get_ydata()] == [0.1, 0.5, 0.9]
    [steps] = [axes.patches[0] for axes in figure.axes if axes.get_xlabel().startswith("devices")]
    assert [*steps.get_data().values] == [2, 1, 0]
    assert figure.legends[0].get_texts()[0].get_text() == "rings: accuracy 0.9 at version 2, 3 updates of 2 devices"
    assert figure.legends[0].get_texts()[1].get_text() == "fresh: not scored, 0 updates of 0 devices"


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("dark", [False, True])
def test_every_panel_stands_alone(tmp_path: Path, panel: str, dark: bool) -> None:
    """Guarantee: one panel of a task without any event is a picture too, on light pages and dark ones."""
    draw_series([EMPTY], tmp_path / "one.png", panels=[panel], dark=dark)
    assert (tmp_path / "one.png").stat().st_size > 1_000


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    """Guarantee: an SVG holds no date and no name drawn by chance, so that it can lie in a repository."""
    for name in ("a.svg", "b.svg"):
        draw_comparison({"fedbuff": [RINGS, RINGS], "fedasync": [RINGS]}, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = {node.text for node in ET.parse(tmp_path / "a.svg").iter() if node.tag.endswith("text")}
    assert {"fedbuff", "fedasync"} <= texts


def test_a_comparison_draws_every_seed_beside_the_mean(tmp_path: Path) -> None:
    """Guarantee: how far the seeds lie apart is seen, and each panel has its own axis."""
    other = replace(RINGS, uploads=[0, 10, 25], values=[0.3, 0.3, 0.7])
    figure = draw_comparison({"fedbuff": [RINGS, other]}, tmp_path / "a.png")
    by_version, by_upload = ([[*map(list, line.get_data())] for line in axes.lines] for axes in figure.axes[:2])
    assert by_version[:2] == [[[0, 1, 2], [0.1, 0.5, 0.9]], [[0, 1, 2], [0.3, 0.3, 0.7]]]
    assert by_upload[:2] == [[[0, 8, 17], [0.1, 0.5, 0.9]], [[0, 10, 25], [0.3, 0.3, 0.7]]]
    assert by_version[2][1] == pytest.approx([0.2, 0.4, 0.8])
    assert by_upload[2][0] == [0, 9, 21]


def test_branches_begin_where_their_version_was_released(tmp_path: Path) -> None:
    """Guarantee: the line of a branch leaves its parent at the version's time, and is named by version and relation."""
    noon = datetime(2026, 11, 26, 12)  # noqa: DTZ001 - the tables' times are UTC without saying so
    lives = [
        Life(name, noon + timedelta(minutes=at), noon + timedelta(minutes=at + 60))
        for name, at in (("rings", 0), ("b", 30))
    ]
    released = noon + timedelta(minutes=20)
    branch = Branch("b", "rings", 12, "branches off", released)
    figure = draw_ancestry(tmp_path / "ancestry.png", lives=lives, branches=[branch])
    texts = {text.get_text(): text for text in figure.axes[0].texts}
    assert {*texts} == {"rings", "b", "@12 branches off"}
    days = (released - datetime(1970, 1, 1)).total_seconds() / 86_400  # noqa: DTZ001 - as above
    assert texts["@12 branches off"].xy[0] == pytest.approx(days)


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    """Guarantee: before anything is asked or trained the message names the formats."""
    with pytest.raises(NoPicture, match=r"ends in \.png, \.svg, \.pdf"):
        draw_series([RINGS], tmp_path / "rings.jpg")
