"""The service levels of the history as metrics of its server: a `--metrics-port` turns them on."""

from __future__ import annotations

import threading
from typing import Self

import structlog

from actors.hosts.metrics import PrometheusInstruments
from ops.history.levels import ASK, ServiceLevels
from ops.web.reading import HistoryReader
from schemas.errors import FedlogError

EVERY_S = 15.0

logger = structlog.get_logger(__name__)


class ShownLevels:
    """Asks the history again and again, in a thread of its own, and shows it beside the server's own figures."""

    def __init__(self, reader: HistoryReader, instruments: PrometheusInstruments) -> None:
        self._reader = reader
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="service-levels", daemon=True)
        self.levels = ServiceLevels(instruments)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30.0)

    def _show(self) -> None:
        trouble = ""
        while True:
            # A history that is being opened, or a question that takes too long: the next one may be answered.
            try:
                self.levels.show(self._reader.ask(ASK))
            except FedlogError as error:
                if str(error) != trouble:
                    logger.warning("service_levels_unknown", reason=str(error))
                trouble = str(error)
            else:
                trouble = ""
            if self._stop.wait(EVERY_S):
                return
