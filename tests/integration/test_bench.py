"""The bench does not rot: its children start, and their figures fill a row."""

from __future__ import annotations

from pathlib import Path

from streams.kafka.settings import KafkaSettings
from tests.bench.row import Bench
from tests.bench.rows import ingest


def test_a_row_is_measured(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """One row of `make bench QUICK=1`, from filling the topics to shares of the floor; no figure is judged."""
    bench = Bench(broker=kafka_settings, folder=tmp_path, runs=1, quick=True)
    [row] = ingest.rows(bench)
    assert (row.name, row.params, row.codec) == ("ingest", 2_410, "int8")
    figures = (row.updates_per_s, row.cpu_ms_per_update, row.mb_per_s, row.share_of_floor, row.ratio_median)
    assert all(figure is not None and figure > 0 for figure in figures)
    assert {"add", "journal", "seal and signature"} <= row.more["stages_ms"].keys()
