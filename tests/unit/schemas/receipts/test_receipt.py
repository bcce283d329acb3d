"""Receipts prove what they say to whoever holds the operator's public key, with fedlog and without."""

from __future__ import annotations

import json
import random
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature

from ops.audit.receipts import find
from schemas.certificates import Trust
from schemas.receipts.receipt import (
    Exclusion,
    Inclusion,
    Receipt,
    ReceiptInvalid,
    check,
    encode_receipt,
    parse_receipt,
)
from schemas.topics import ROUNDS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.root import ROOT
from tests.tables import tell
from tests.worlds.builders import DEPLOYMENT, KEY

SCRIPT = ROOT / "docs" / "receipts" / "check_receipt.py"
STRANGER = bytes(31) + b"\x09"


@pytest.fixture(scope="module")
def receipts() -> dict[str, Receipt]:
    """One of each kind, from the story."""
    story, trust = tell(), Trust(KEY.public_key, DEPLOYMENT)
    seen: dict[str, Receipt] = {}
    for _, decision, _ in read_decisions(story.log, TopicPartition(ROUNDS.name, story.partition), trust=trust):
        for event in decision.events:
            kind = type(event).__name__
            if kind in ("UpdateAdmitted", "UpdateRefused") and kind not in seen:
                seen[kind] = find(story.log, event.task, update=event.update, trust=trust)
    return seen


def _run_script(path: Path, operator: bytes = KEY.public_key) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(SCRIPT), str(path), operator.hex()]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent)


@pytest.mark.parametrize("kind", ["UpdateAdmitted", "UpdateRefused"])
def test_a_receipt_is_checked_with_fedlog_and_without(receipts: dict[str, Receipt], kind: str, tmp_path: Path) -> None:
    """The file comes back as it was; the script says the same; another operator's key proves nothing."""
    receipt, path = receipts[kind], tmp_path / "receipt.json"
    path.write_bytes(encode_receipt(receipt))
    assert parse_receipt(path.read_bytes()) == receipt
    proven, told = check(receipt, KEY.public_key), _run_script(path)
    assert told.returncode == 0, told.stderr
    assert proven.update in told.stdout
    assert f"version {proven.version} of" in told.stdout if proven.version else proven.outcome in told.stdout
    with pytest.raises(ReceiptInvalid):
        check(receipt, STRANGER)
    assert "NOT PROVEN" in _run_script(path, STRANGER).stderr


@pytest.mark.parametrize("kind", ["UpdateAdmitted", "UpdateRefused"])
def test_no_letter_of_a_receipt_may_differ(receipts: dict[str, Receipt], kind: str) -> None:
    """Each letter in turn is another one: the receipt is refused, or says the very same."""
    plain = json.loads(encode_receipt(receipts[kind]))
    expected, draw = check(receipts[kind], KEY.public_key), random.Random(20261126)
    refused = 0
    for changed in _change_each_letter(plain, draw):
        try:
            proven = check(parse_receipt(json.dumps(changed).encode()), KEY.public_key)
        except ReceiptInvalid:
            refused += 1
        else:
            assert proven == expected, changed
    assert refused > 100


@pytest.mark.parametrize("kind", ["UpdateAdmitted", "UpdateRefused"])
def test_no_byte_of_a_receipt_may_differ(receipts: dict[str, Receipt], kind: str) -> None:
    """Every byte of the file in turn, with fedlog and without: refused, unless it says the same in other letters."""
    data, draw = encode_receipt(receipts[kind]), random.Random(20261127)
    expected, script = check(receipts[kind], KEY.public_key), runpy.run_path(str(SCRIPT))
    tell = script["check_inclusion" if kind == "UpdateAdmitted" else "check_exclusion"]
    said, meaningless, equal = tell(json.loads(data), KEY.public_key), 0, 0
    for place, byte in enumerate(data):
        changed = bytearray(data)
        changed[place] = byte ^ draw.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        try:
            receipt = parse_receipt(bytes(changed))
            assert check(receipt, KEY.public_key) == expected
        except ReceiptInvalid:
            pass
        else:
            # White space between two words of JSON.
            assert receipt == receipts[kind], place
            meaningless += 1
        try:
            assert tell(json.loads(bytes(changed)), KEY.public_key) == said, place
        except (InvalidSignature, ValueError, KeyError, IndexError, TypeError):
            continue
        equal += 1
    assert meaningless < len(data) / 20
    # The script reads hexadecimal digits of both cases, and passes over what it does not know.
    assert equal < len(data) / 5


def _change_each_letter(plain: dict[str, Any], draw: random.Random) -> list[dict[str, Any]]:
    found = []
    for name, value in plain.items():
        if isinstance(value, int):
            found += [{**plain, name: value + 1}, {**plain, name: value * 2 + 3}]
        texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        for place, text in enumerate(texts):
            for letter in draw.sample(range(len(text)), min(len(text), 150)):
                other = draw.choice([each for each in "0123456789abcdef" if each != text[letter]])
                replaced = text[:letter] + other + text[letter + 1 :]
                new = [*texts[:place], replaced, *texts[place + 1 :]] if isinstance(value, list) else replaced
                found.append({**plain, name: new})
    return found


def test_the_script_sees_a_changed_byte(receipts: dict[str, Receipt], tmp_path: Path) -> None:
    """In the update, its weight, its way, and the announcement."""
    receipt, path = receipts["UpdateAdmitted"], tmp_path / "receipt.json"
    assert isinstance(receipt, Inclusion)
    version = receipt.announcement.replace('"version":', '"version":1')
    changes: list[dict[str, Any]] = [
        {"update": "0" * 32},
        {"weight": receipt.weight + 1},
        {"index": receipt.index + 1},
        {"path": receipt.path[:-1]},
        {"path": (*receipt.path, "00" * 32)},
        {"announcement": version},
    ]
    for change in changes:
        path.write_bytes(encode_receipt(msgspec.structs.replace(receipt, **change)))
        told = _run_script(path)
        assert told.returncode == 1, change
        assert "NOT PROVEN" in told.stderr


def test_an_admission_is_no_exclusion(receipts: dict[str, Receipt]) -> None:
    """The aggregator's "admitted" cannot be passed off as the proof that an update is in no version."""
    inclusion = receipts["UpdateAdmitted"]
    assert isinstance(inclusion, Inclusion)
    answer = next(data for data, outcome in _answers() if outcome == (inclusion.update, "admitted"))
    with pytest.raises(ReceiptInvalid, match="admitted"):
        check(Exclusion(answer=answer.hex()), KEY.public_key)


def _answers() -> list[tuple[bytes, tuple[str, str]]]:
    from ops.audit.receipts import _read_outcomes

    found = _read_outcomes(tell().log, Trust(KEY.public_key, DEPLOYMENT))
    return [(data, (outcome.update, outcome.outcome)) for data, outcome in found]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"type":"fedlog.inclusion.v1"}', b"\xff", b"[" * 5000])
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    """With what it is not."""
    with pytest.raises(ReceiptInvalid, match="no receipt"):
        parse_receipt(data)
