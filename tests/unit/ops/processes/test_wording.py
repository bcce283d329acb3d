"""What somebody is advised to do can be done where they are."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import fedlog
from fedlog.training import RunOptions
from ops.processes.wording import Wording
from schemas.errors import FedlogError
from tests.root import ROOT

RINGS = ROOT / "docs" / "examples" / "rings.toml"


def test_each_reader_gets_words_of_their_own() -> None:
    """Guarantee: advice names options as they are written there, and parameters that `run` has."""
    assert Wording.TERMINAL.name_option("name", "rings-2") == "--name rings-2"
    assert Wording.TERMINAL.name_option("deterministic") == "--deterministic"
    assert Wording.PYTHON.name_option("name", "rings-2") == 'name="rings-2"'
    assert Wording.PYTHON.name_option("set", "stop.versions_max=2") == 'changes=["stop.versions_max=2"]'
    for option in ("name", "devices", "set", "deterministic"):
        parameter = Wording.PYTHON.name_option(option, "1").partition("=")[0]
        assert parameter in RunOptions.__annotations__
    assert "bootstrap_servers" in inspect.signature(fedlog.connect).parameters


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": 5}, 'changes=["aggregation.updates_per_round=5"]'),
        ({"deterministic": True, "changes": ["privacy.noise_multiplier=1", "privacy.rho_max=9"]}, "deterministic=True"),
    ],
)
def test_a_library_speaks_of_its_own_parameters(
    options: RunOptions, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: what `fedlog.run` refuses, it refuses without an option that only the command has."""
    monkeypatch.setenv("FEDLOG_FOLDER", str(tmp_path / "f"))
    with pytest.raises(FedlogError) as refused:
        fedlog.run(RINGS, **options)
    assert said in str(refused.value)
    assert "--" not in str(refused.value)
