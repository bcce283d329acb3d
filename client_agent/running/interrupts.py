"""Ctrl-C and SIGTERM held back while something is started or ended that must not be interrupted half-way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM that arrive in the block take effect at its end."""
    # Elsewhere no handler can be set, and no handler runs either.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda given, _: arrived.append(given)) for number in numbers}
    try:
        yield
    finally:
        # Ray handles SIGTERM itself once it runs, and would leave processes and its scratch folder behind.
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if arrived:
            signal.raise_signal(arrived[0])
