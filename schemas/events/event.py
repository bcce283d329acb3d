"""What all events have in common."""

from __future__ import annotations

import msgspec


# Keyword-only and without unknown fields: a field is named wherever it is written, and none is read by accident.
class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="{}/1".format):
    """Something that happened. Values compare by content; they are trees, so the cycle collector need not see them."""
