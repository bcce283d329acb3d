"""Values as people read them: numbers, shares, waits, times, and the short form of a digest."""

from __future__ import annotations

from datetime import UTC, datetime

NOTHING = "–"
DIGITS_OF_ID = 8


def format_number(value: float | None, *, digits: int = 4) -> str:
    """Whole numbers with thin groups, others with so many digits that say something."""
    if value is None:
        return NOTHING
    # Whole numbers are counts, of which every digit says something.
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def format_share(part: float, whole: float) -> str:
    """A share in percent."""
    if not whole:
        return NOTHING
    share = 100 * part / whole
    # A budget that is nearly gone must not read as gone.
    return f"{share:.0f} %" if share >= 10 or share == int(share) else f"{share:.1f} %"


def format_seconds(seconds: float | None) -> str:
    """A duration in its natural unit."""
    if seconds is None:
        return NOTHING
    # Below a second the difference between decisions shows in milliseconds alone.
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_bytes(size: int | None) -> str:
    """A size in its natural unit."""
    if size is None:
        return NOTHING
    value, unit = float(size), "B"
    # Thousands, as disks and networks are sold, not powers of two.
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"


def format_clock(time_ms: int | None) -> str:
    """The time of day, UTC."""
    if time_ms is None:
        return NOTHING
    return to_datetime(time_ms).strftime("%H:%M:%S")


def format_time(time_ms: int | None) -> str:
    """Date and time, UTC."""
    if time_ms is None:
        return NOTHING
    return to_datetime(time_ms).strftime("%Y-%m-%d %H:%M:%S")


def format_moment(time_ms: int) -> str:
    """A time as the history takes it in `as of`."""
    return to_datetime(time_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}"


def to_datetime(time_ms: int) -> datetime:
    """UTC, as all times of the history."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def to_ms(when: datetime | None) -> int | None:
    """What the history gives as a timestamp, as the milliseconds that it was."""
    # The history gives times without a zone, and means UTC.
    return None if when is None else round(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)


def shorten(digest: str | None) -> str:
    """The first digits of an id: they tell devices apart, and all of them would fill the line."""
    return NOTHING if not digest else digest[:DIGITS_OF_ID]
