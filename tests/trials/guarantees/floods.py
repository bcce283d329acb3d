"""What hostile records cost a journal, from the rows of the floods: bytes a record, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.trials.guarantees.evidence import Evidence, Row, table, wrap_text

# Of a full run of records; what a run costs is divided by as many.
BYTES_A_RECORD_MAX = 1.0
# Of a record that comes alone: a journal record without a decision, its signature, and one count; a copy on which our
# own code fails is two counts. Most of it says where each input stands, and of a journal that is a head and a key.
BYTES_ALONE_MAX = 700
HEAD = ("record", "its bytes", "bytes of journal, before", "now, in a run of 2,000", "alone", "bytes of answers")
WORDS = f"""*Before* is what an audit of commit `6986fde` found; where it is empty nobody measured. Journals are kept
for ever, answers for an hour. A promise is broken where a record of a full run costs more than {BYTES_A_RECORD_MAX:.0f}
byte, or one that comes alone more than {BYTES_ALONE_MAX} in the journal of each actor that reads it. A host under load
begins a run at most every 20 ms, so that a flood of any speed costs a journal some 20 KB a second; a record that comes
alone costs a run of its own. Of one run a device gets the newest answer about each thing, once."""


def floods(found: Sequence[Row]) -> Evidence:
    """The newest row of each kind of record, beside the oldest where that is of the audit."""
    before = {row["case"]: row for row in found if "records" not in row}
    newest = {row["case"]: row for row in found if "records" in row}
    broken = [row for row in newest.values() if _is_broken(row)]
    lines = [_line(row, before.get(case, {})) for case, row in newest.items()]
    tries = sum(row["records"] for row in newest.values())
    return Evidence(
        title="Floods: what a hostile record costs",
        tried=f"{tries:,} hostile records of {len(newest)} kinds",
        command="make floods",
        tries=tries,
        violations=len(broken),
        struck=Counter({case: row["records"] for case, row in newest.items()}),
        body=f"{table(HEAD, lines)}\n\n{wrap_text(' '.join(WORDS.split()))}",
    )


def _is_broken(row: Row) -> bool:
    # Each actor that reads a topic has a journal of its own, and counts for itself.
    alone = row["journal_bytes_alone"] / max(1, row.get("readers", 1))
    return bool(row["journal_bytes"] > BYTES_A_RECORD_MAX or alone > BYTES_ALONE_MAX)


def _line(row: Row, before: Row) -> tuple[str, ...]:
    return (
        row["case"],
        f"{row['sent_bytes']:,}",
        f"{before['journal_bytes']}" if before else "",
        f"{row['journal_bytes']:.2f}",
        f"{row['journal_bytes_alone']:,}",
        f"{row['answer_bytes']:,}",
    )
