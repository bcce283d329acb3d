"""The root of every error that fedlog raises on purpose."""

from __future__ import annotations


class FedlogError(Exception):
    """Something that fedlog cannot do, said so that a person knows what, where and what to do."""
