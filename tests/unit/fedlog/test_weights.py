"""A model outside of the log, and what importing the public package costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from torch import nn

import fedlog
from fedlog import Model


def test_the_import_loads_nothing_heavy() -> None:
    """Guarantee: a data callable may import fedlog in every process; all public names are there, and no other."""
    heavy = {"numpy", "kafka", "torch", "ray", "faust", "sklearn", "psutil", "rich", "typer"}
    program = f"import sys, fedlog; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
    assert {getattr(fedlog, name).__name__ for name in fedlog.__all__} == set(fedlog.__all__)
    assert set(fedlog.__all__) <= set(dir(fedlog))
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = fedlog.nothing_such


def test_connecting_needs_no_torch() -> None:
    """Guarantee: whoever looks at tasks loads neither torch nor Ray, wherever the deployment is."""
    program = "import sys, fedlog; fedlog.connect; fedlog.run; print(*{'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_model_becomes_a_module_s_weights() -> None:
    """Guarantee: arrays reach the parameters of their names; one that the module has not is named."""
    module = nn.Linear(2, 3)
    arrays = {"weight": np.arange(6, dtype=np.float32).reshape(3, 2), "bias": np.ones(3, np.float32)}
    assert Model("t", 1, arrays).load_into(module) is module
    assert module.weight.detach().numpy().tolist() == arrays["weight"].tolist()
    with pytest.raises(ValueError, match=r"no other\.weight; it has weight, bias"):
        Model("t", 1, {"other.weight": arrays["weight"]}).load_into(module)
