"""Pictures for the documents: small, the same each time, and no longer than anybody reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

COLORS = 128
HEIGHT_MAX = 1_960


def take(page: Any, path: Path, *, is_whole: bool) -> None:
    """A picture of what a browser shows, or of the whole page down to a height."""
    width = page.viewport_size["width"]
    height = page.evaluate("document.documentElement.scrollHeight") if is_whole else page.viewport_size["height"]
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, HEIGHT_MAX)}
    write(page.screenshot(full_page=is_whole, clip=clip, animations="disabled"), path)


def write(data: bytes, path: Path) -> None:
    """A picture with few colours: a page has no more, and the repository keeps every picture for ever."""
    with Image.open(io.BytesIO(data)) as picture:
        few = picture.convert("RGB").quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
