"""A policy's plugin that names the cohort of a digit."""

from __future__ import annotations

from typing import Any


def name_half(example: Any) -> str:
    """Even digits and odd ones."""
    return "odd" if int(example[1]) % 2 else "even"
