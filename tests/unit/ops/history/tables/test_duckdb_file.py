"""The file: questions change nothing and reach no other file; rows and marks go together; others' files are refused."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ops.history.tables.answers import HistoryInUse, HistoryUnfit, QueryRefused
from ops.history.tables.catalogue import compute_format
from ops.history.tables.duckdb_file import HistoryFile, make_transient, open_for_questions
from ops.history.tables.facts import FACTS
from ops.history.tables.projector import Mark
from schemas.events import RoundOpened
from schemas.journal import JournalPosition
from streams.log import TopicPartition
from tests.root import ROOT
from tests.tables import READER, list_rows, opened, synced, tell
from tests.worlds.builders import task_closed

FILE = "history.duckdb"
AT = TopicPartition("rounds", 3)
NOT_QUESTIONS = [
    "DELETE FROM marks",
    "DROP VIEW tasks",
    "CREATE TABLE t (a INT)",
    "SELECT 1; DELETE FROM marks",
    "COPY tasks TO '{folder}/out.csv'",
    "ATTACH '{folder}/other.duckdb'",
    "INSTALL httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "WITH gone AS (DELETE FROM marks RETURNING *) FROM gone",
    "FROM read_csv('/etc/passwd')",
    "FROM '/etc/passwd'",
    "FROM read_text('/etc/passwd')",
    "FROM glob('/*')",
    "FROM nothing",
    "SELEC",
    "",
]

# Its disk is full once a file has so many bytes.
FULL = """
import pathlib, resource, signal, sys
from ops.history.tables.facts import FACTS
from ops.history.tables.projector import Mark
from schemas.events import RoundOpened
from streams.log import TopicPartition
from tests.tables import opened
path, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with opened(path) as history:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for stored in range(0, 100_000, 1_000):
        print(stored)
        place = ("rounds", 3, stored, 0, None, None, None, 1, 1)
        columns = FACTS[RoundOpened].make_columns([place] * 1_000, [RoundOpened(task="digits", round=4)] * 1_000)
        history.write({"round_opened": [columns]}, {TopicPartition("rounds", 3): Mark(stored + 1_000, 1)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
"""
# Somebody who may do nothing in this folder: root may do everything everywhere.
CLOSED = """
import os, pathlib, sys
from tests.tables import opened
folder = pathlib.Path(sys.argv[1])
if folder.name == "closed":
    folder.mkdir(mode=0o500)
    if os.getuid() == 0:
        os.setuid(65534)
with opened(folder / "history.duckdb"):
    pass
"""
# Dies where it is told to, while it makes the file.
DYING = """
import os, pathlib, signal, sys
from ops.history.tables import duckdb_file
path, step = sys.argv[1:]
create, connect = duckdb_file._create, duckdb_file._connect
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
def created(connection, identity):
    create(connection, identity)
    die()
class Dying:
    def __init__(self, connection):
        self._connection = connection
    def execute(self, sql, *more):
        found = self._connection.execute(sql, *more)
        return die() if sql == "CHECKPOINT" else found
    def close(self):
        self._connection.close()
if step == "checkpoint":
    duckdb_file._connect = lambda path, **more: Dying(connect(path, **more))
else:
    duckdb_file._create = {"begun": die, "created": created}[step]
duckdb_file.HistoryFile(pathlib.Path(path), identity="")
"""


@pytest.mark.parametrize("sql", NOT_QUESTIONS)
@pytest.mark.parametrize("is_written", [True, False])
def test_only_questions_are_answered(tmp_path: Path, sql: str, is_written: bool) -> None:
    """Whether the process that writes is asked or the file alone: nothing changes, and no file is read or made."""
    asked = sql.format(folder=tmp_path)
    with opened(tmp_path / FILE) as history:
        history.write({}, {AT: Mark(1, 2)})
        if is_written:
            with pytest.raises(QueryRefused):
                history.ask(asked)
            assert history.read_marks() == {AT: Mark(1, 2)}
    if not is_written:
        with open_for_questions(tmp_path / FILE) as answers, pytest.raises(QueryRefused):
            answers.ask(asked)
    assert {path.name for path in tmp_path.iterdir()} <= {FILE, f"{FILE}.wal"}


def test_marks_come_back_as_they_were_written(tmp_path: Path) -> None:
    """The chain too, byte for byte, and the newest of each partition."""
    chain = JournalPosition(claim=3, seq=7, head=bytes(range(32)), key=bytes(32))
    with opened(tmp_path / FILE) as history:
        history.write({}, {AT: Mark(1, 2)})
        history.write({}, {AT: Mark(9, 10, chain)})
    with opened(tmp_path / FILE) as history:
        assert history.read_marks() == {AT: Mark(9, 10, chain)}


def test_rows_and_marks_are_stored_together_or_not_at_all(tmp_path: Path) -> None:
    """A row that does not fit takes its marks with it."""
    with opened(tmp_path / FILE) as history:
        place = ("rounds", 3, 0, 0, None, None, None, 1, 1)
        closed, opened_round = task_closed(), RoundOpened(task="digits", round=4)
        whole = {
            FACTS[type(event)].name: [FACTS[type(event)].make_columns([place], [event])]
            for event in (closed, opened_round)
        }
        torn = {**whole, "round_opened": [{**whole["round_opened"][0], "round": ["not a number"]}]}
        with pytest.raises(duckdb.Error):
            history.write(torn, {AT: Mark(1, 2)})
        assert (history.read_marks(), history.ask("FROM facts.task_closed").rows) == ({}, [])
        history.write(whole, {AT: Mark(1, 2)})
        assert history.ask("SELECT round FROM facts.round_opened").rows == [(4,)]


def test_as_of_a_version_the_tables_are_what_they_were(tmp_path: Path) -> None:
    """Nothing that came later shows: the same as a history that was built from the log up to there."""
    with synced(tmp_path / FILE, tell().log) as history:
        task, version, at_ms = history.ask(
            "SELECT task, version, at_ms FROM facts.model_published WHERE version = 2"
        ).rows[0]
        then = history.ask("SELECT task, version FROM versions", as_of=f"{task}@{version}").rows
        assert (task, version) in then
        assert (task, version + 1) not in then
        for table, fact in (("updates", "update_admitted"), ("rounds", "round_opened"), ("leases", "lease_granted")):
            expected = history.ask(f"SELECT count(*) FROM facts.{fact} WHERE at_ms <= {at_ms}").rows
            where = "WHERE outcome = 'admitted'" if table == "updates" else ""
            assert history.ask(f"SELECT count(*) FROM {table} {where}", as_of=f"{task}@{version}").rows == expected
        asked = f"SELECT count(*) FROM leases WHERE epoch_ms(closed_at) > {at_ms}"
        assert history.ask(asked, as_of=f"{task}@{version}").rows == [(0,)] != history.ask(asked).rows
        # And one who asks next sees all of it again.
        assert (task, version + 1) in history.ask("SELECT task, version FROM versions").rows


@pytest.mark.parametrize("as_of", ["digits@99", "nobody@1", "yesterday", "digits@one", "1970-01-01"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, as_of: str) -> None:
    """Unknown tasks and versions, words, and a time before the first event."""
    with synced(tmp_path / FILE, tell().log) as history, pytest.raises(QueryRefused):
        history.ask("FROM tasks", as_of=as_of)


def test_another_file_is_no_history(tmp_path: Path) -> None:
    """A database of somebody else's, one of another format, of another log, for other eyes, or no database at all."""
    with duckdb.connect(str(tmp_path / "theirs")) as theirs:
        theirs.execute("CREATE TABLE t (a INT)")
    (tmp_path / "text").write_text("no database")
    with opened(tmp_path / FILE):
        pass
    with duckdb.connect(str(tmp_path / FILE)) as ours, pytest.raises(HistoryInUse), opened(tmp_path / FILE):
        ours.execute("SELECT 1")
    for name, viewer in (("theirs", None), ("text", None), (FILE, READER)):
        with pytest.raises(HistoryUnfit), opened(tmp_path / name, *([viewer] if viewer else [])):
            pass
    with duckdb.connect(str(tmp_path / FILE)) as ours:
        ours.execute("UPDATE about SET format = 'older'")
    with pytest.raises(HistoryUnfit, match="rebuild"), opened(tmp_path / FILE):
        pass


@pytest.mark.parametrize("step", ["begun", "created", "checkpoint"])
def test_a_kill_while_a_file_is_made_leaves_none_that_is_unfit(tmp_path: Path, step: str) -> None:
    """Killed before its tables are there, and before it is in its place: the next one makes it anew, and cleans up."""
    child = subprocess.run([sys.executable, "-c", DYING, str(tmp_path / FILE), step], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / FILE).exists()
    with opened(tmp_path / FILE) as history:
        assert history.ask("FROM tasks").rows == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_file_that_another_process_writes_is_in_use(tmp_path: Path) -> None:
    """Neither a second writer nor a reader gets in, and both are told so."""
    with opened(tmp_path / FILE):
        pass
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(tmp_path / FILE)!r}); print('open', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(HistoryInUse), opened(tmp_path / FILE):
            pass
        with pytest.raises(HistoryInUse), open_for_questions(tmp_path / FILE):
            pass
    finally:
        child.communicate()


@pytest.mark.parametrize("bytes_max", [40_000, 400_000])
def test_a_full_disk_is_told_and_takes_nothing_with_it(tmp_path: Path, bytes_max: int) -> None:
    """What was stored before is whole, rows and marks alike, and with room it goes on from there."""
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / FILE), str(bytes_max)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "HistoryUnwritable" in told.stderr
    stored = int(told.stdout.split()[-1])
    with opened(tmp_path / FILE) as history:
        assert history.ask("SELECT count(*) FROM facts.round_opened").rows == [(stored,)]
        assert history.read_marks() == {AT: Mark(stored, 1)}
        history.write({}, {AT: Mark(stored + 1, 1)})


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """Cut off anywhere, or with other bytes: nobody is answered from it, and a rebuild is named."""
    with synced(tmp_path / FILE, tell().log):
        pass
    whole = (tmp_path / FILE).read_bytes()
    for length in (1, 4_096, 12_288, len(whole) // 2, len(whole) - 300_000):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(HistoryUnfit, match="rebuild"), opened(tmp_path / "cut") as history:
            list_rows(history)
    # Every block that holds rows has a checksum; what is free says nothing to anybody.
    with opened(tmp_path / FILE) as history:
        expected = list_rows(history)
    used, noticed = [place for place in range(12_288, len(whole)) if whole[place]], 0
    for place in random.Random(20261127).sample(used, 6):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        (tmp_path / "changed").write_bytes(changed)
        with contextlib.suppress(HistoryUnfit), opened(tmp_path / "changed") as history:
            assert list_rows(history) == expected
            continue
        noticed += 1
    assert noticed


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    """Also where the folder is none."""
    for folder in (tmp_path / "closed", tmp_path / "nowhere"):
        told = subprocess.run(
            [sys.executable, "-c", CLOSED, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "HistoryUnfit" in told.stderr
        assert str(folder) in told.stderr


def test_a_transient_history_leaves_nothing_behind() -> None:
    """Of a log that is read once."""
    with make_transient() as history:
        assert history.ask("FROM tasks").rows == []
        folder = Path(
            history.ask("SELECT path FROM duckdb_databases() WHERE database_name = 'history'").rows[0][0]
        ).parent
        assert folder.exists()
    assert not folder.exists()


def test_a_writer_needs_little_memory_until_it_is_asked(tmp_path: Path) -> None:
    """Guarantee: taking in a long history takes no more memory than a short one; a question has what it may need."""
    setting = "SELECT current_setting('memory_limit')"
    with synced(tmp_path / "history.duckdb", tell().log) as history:
        assert history._connection.execute(setting).fetchall() == [("45.7 MiB",)]
        assert history.ask(setting).rows == [("1.8 GiB",)]
        assert history._connection.execute(setting).fetchall() == [("1.8 GiB",)]
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            history._connection.execute("SET memory_limit = '9GB'")


def test_a_foreign_file_reads_no_other(tmp_path: Path) -> None:
    """What looks like a history's own table may be a view: opened, it would read whatever its author named."""
    (tmp_path / "secret").write_text("of the user")
    with contextlib.closing(duckdb.connect(str(tmp_path / FILE))) as connection:
        connection.execute(
            f"CREATE VIEW about AS SELECT '{compute_format()}' AS format, content AS identity, '0' AS generation "
            f"FROM read_text('{tmp_path}/secret')"
        )
    with pytest.raises(HistoryUnfit), open_for_questions(tmp_path / FILE):
        pass
    with pytest.raises(HistoryUnfit):
        HistoryFile(tmp_path / FILE, identity="of the user")


def test_a_question_does_not_fill_the_disk(tmp_path: Path) -> None:
    """What does not fit into the memory of a question has a bound on the disk as well."""
    with opened(tmp_path / FILE) as history:
        asked = "SELECT current_setting('memory_limit'), current_setting('max_temp_directory_size')"
        assert history.ask(asked).rows == [("1.8 GiB", "7.4 GiB")]
