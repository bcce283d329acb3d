"""Test vectors for devices in other languages: `python -m tests.trials.typescript.vectors` writes `schemas/vectors/`.

Each file is JSON with a list of cases: what goes in, and the bytes that come out. Bytes stand as {"hex": "…"}, long
ones in base64. They are what this package writes, compared by a test; the client in TypeScript, which shares no code
with it, has to agree with every one of them.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from client_agent.compression import add_residual, clip, compress, measure_fidelity
from schemas.canonical import encode
from schemas.certificates import Signer
from schemas.devices import name_device, sign_checkin, tag_public_key
from schemas.events import Declined, DeviceCheckedIn, Granted, LeaseAbandoned, Outcome, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.leases import Lease, sign_lease
from schemas.policy import Policy
from schemas.policy.metrics import Fidelity
from schemas.sealing.envelopes import (
    SECRET_BYTES,
    Binding,
    Contents,
    EpochSecret,
    list_sizes,
    open_body,
    seal_body,
    write_info,
)
from schemas.sealing.epochs import EpochKey, sign_epoch_key
from schemas.tensors import BodyError, decompress, pack, payload_bytes
from schemas.tensors.frames import Floats
from schemas.updates import address_inline, sign_update
from tests.root import ROOT
from tests.trials.typescript.production import describe_production
from tests.trials.typescript.speakers import (
    AGGREGATOR,
    DEADLINE_MS,
    DEPLOYMENT,
    DEVICE,
    OPERATOR,
    SELECTOR,
    TASK,
    UNTIL_MS,
    make_signer,
)
from tests.worlds.builders import policy

FOLDER = ROOT / "schemas" / "vectors"
MODEL = pack(np.arange(-3, 4, dtype="<f4") / 8)

Case = dict[str, Any]


def main() -> None:
    """Write every file anew."""
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / name).write_text(make_text(name))


def make_text(name: str) -> str:
    """What the file of this name holds."""
    return json.dumps({"cases": list(FILES[name]())}, indent=1, ensure_ascii=False) + "\n"


def _describe_values() -> Iterator[Case]:
    """Values whose encoding is easily written in another way: the shortest form of each number, keys in this order."""
    numbers = [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1, -1, -32, -33, -128, -129, -(2**31)]
    for value in [None, False, True, *numbers, 0.5, -1.25, 1e300, "", "ü", "x" * 31, "x" * 32, "x" * 256]:
        yield {"value": value, "encoded": encode(value).hex()}
    for size in (0, 255, 256):
        yield {"value": {"hex": bytes(size).hex()}, "encoded": encode(bytes(size)).hex()}
    for value in ([], list(range(15)), list(range(16)), {"b": 1, "a": [None, {"c": -1}]}):
        yield {"value": value, "encoded": encode(value).hex()}


def _describe_messages() -> Iterator[Case]:
    """What a device signs: its key, what it says, the record that it sends, and that record's digest."""
    for what, record, said in _write_messages():
        yield {
            "what": what,
            "secret": DEVICE.private_bytes_raw().hex(),
            "public_key": tag_public_key(DEVICE).hex(),
            "device": name_device(tag_public_key(DEVICE)),
            "deployment": DEPLOYMENT.hex(),
            "value": _to_json(msgspec.to_builtins(said, builtin_types=(bytes,))),
            "record": record.hex(),
            "record_sha256": hashlib.sha256(record).hexdigest(),
        }


def _write_messages() -> Iterator[tuple[str, bytes, Any]]:
    public_key = tag_public_key(DEVICE)
    checkin = DeviceCheckedIn(
        task=TASK,
        device=name_device(public_key),
        public_key=public_key,
        sent_ms=1_790_000_000_123,
        battery_percent=80,
        charging=True,
        unmetered=True,
        idle=False,
        samples=321,
        cohort="north",
    )
    yield "check-in", sign_checkin(checkin, DEVICE, deployment=DEPLOYMENT), checkin
    abandoned = LeaseAbandoned(
        task=TASK, device=name_device(public_key), public_key=public_key, lease="0f" * 16, reason="training_failed"
    )
    yield "lease abandoned", sign_checkin(abandoned, DEVICE, deployment=DEPLOYMENT), abandoned
    body = b"a body, which no reader of this vector opens"
    for fidelity in (None, Fidelity(kept=65_535, lost=412)):
        submitted = UpdateSubmitted(
            sealed=sign_lease(make_lease(), make_signer("selector", SELECTOR)),
            samples=321,
            metrics=(),
            body=address_inline(body, codec="int8"),
            inline=body,
            fidelity=fidelity,
        )
        yield "update", sign_update(submitted, DEVICE), submitted


def _describe_answers() -> Iterator[Case]:
    """What a device hears, and whether it may believe it."""
    selector, aggregator = make_signer("selector", SELECTOR), make_signer("aggregator", AGGREGATOR)
    stranger = Signer(OPERATOR, selector.certificate)
    foreign = make_signer("selector", SELECTOR, operator=AGGREGATOR)
    device, asked = name_device(tag_public_key(DEVICE)), hashlib.sha256(b"a check-in").digest()
    granted = Granted(
        device=device,
        checkin_sha256=asked,
        sealed=sign_lease(make_lease(), selector),
        model=BodyRef(
            topic="models",
            partition=3,
            offsets=(17,),
            sha256=hashlib.sha256(MODEL).digest(),
            size=len(MODEL),
            codec="float32",
        ),
    )
    declined = Declined(device=device, checkin_sha256=asked, task=TASK, reason="no_slot", retry_after_ms=5000)
    outcome = Outcome(
        device=device,
        task=TASK,
        update="0f" * 16,
        record_sha256=hashlib.sha256(b"an update").digest(),
        outcome="admitted",
    )
    for why, answer, signer, role, at_ms in (
        ("", granted, selector, "selector", DEADLINE_MS),
        ("", declined, selector, "selector", UNTIL_MS),
        ("", outcome, aggregator, "aggregator", DEADLINE_MS),
        ("the certificate is over", declined, selector, "selector", UNTIL_MS + 1),
        ("a selector reports no outcomes", outcome, selector, "aggregator", DEADLINE_MS),
        ("somebody else's signature under the certificate", granted, stranger, "selector", DEADLINE_MS),
        ("a certificate of another operator", granted, foreign, "selector", DEADLINE_MS),
    ):
        yield {
            "operator": OPERATOR.public_key().public_bytes_raw().hex(),
            "deployment": DEPLOYMENT.hex(),
            "role": role,
            "at_ms": at_ms,
            "record": signer.certify(encode(answer)).hex(),
            "refused_because": why,
            "value": _to_json(msgspec.to_builtins(answer, builtin_types=(bytes,))),
        }


def make_lease() -> Lease:
    """The lease that the vectors speak of."""
    public_key = tag_public_key(DEVICE)
    return Lease(
        deployment=DEPLOYMENT,
        lease="0f" * 16,
        task=TASK,
        device=name_device(public_key),
        public_key=public_key,
        version=12,
        model_sha256=hashlib.sha256(MODEL).digest(),
        deadline_ms=DEADLINE_MS,
        policy_sha256=hashlib.sha256(b"a policy").digest(),
    )


def _describe_updates() -> Iterator[Case]:
    """From what training changed to the payload of an int8 body, and to what stays behind for the next update.

    Every element is a multiple of 2^-10, so that its sum of squares is exact in whatever order somebody adds.
    """
    draw = np.random.default_rng(16)
    for size, norm, carried in ((1, 1.0, False), (5, 0.25, False), (300, 50.0, True), (4100, 2.5, True)):
        delta = _draw(draw, size)
        residual = _draw(draw, size) / np.float32(64) if carried else None
        rules = make_policy(norm)
        whole = add_residual(delta, residual)
        protected = clip(whole, norm)
        sent = compress(protected, policy=rules)
        fidelity = measure_fidelity(whole, protected, sent=sent, policy=rules)
        yield {
            "parameters": size,
            "clip_norm": float(norm),
            "steps": rules.clipping.steps,
            "delta_f4": _base64(delta),
            "residual_f4": None if residual is None else _base64(residual),
            "protected_f4": _base64(protected),
            "payload": b64encode(decompress(sent.body, payload_bytes(rules.compression, size))).decode(),
            "left_f4": None if sent.residual is None else _base64(sent.residual),
            "kept": fidelity.kept,
            # A norm of rounding errors, whose last bits depend on the order of a sum.
            "lost_about": fidelity.lost,
        }


def make_policy(norm: float) -> Policy:
    """A policy with this clip, int8 and error feedback."""
    return policy(clipping={"norm": norm}, compression={"codec": "int8"})


def _describe_models() -> Iterator[Case]:
    """A model as it is stored: one zstd frame around float32 values."""
    draw = np.random.default_rng(7)
    for vector in (np.arange(-3, 4, dtype="<f4") / 8, _draw(draw, 300), np.zeros(70_000, "<f4")):
        body = pack(vector)
        yield {
            "parameters": vector.size,
            "body": b64encode(body).decode(),
            "sha256": hashlib.sha256(body).hexdigest(),
            "values_sha256": hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest(),
        }


def _describe_sealed() -> Iterator[Case]:
    """The key of an epoch as an aggregator signs it, what an update is bound to, and an envelope that opens to it.

    An envelope is another each time, so that one that still opens to what it says stays as it is.
    """
    # X-Wing's own private key is a seed that is expanded so; ours is what it expands to.
    seed = hashlib.sha256(b"epoch").digest()
    secret = EpochSecret(expanded := hashlib.shake_256(seed).digest(SECRET_BYTES))
    path = FOLDER / "sealed.json"
    before = json.loads(path.read_text())["cases"] if path.exists() else []
    key = EpochKey(deployment=DEPLOYMENT, task=TASK, epoch=3, public_key=secret.public_key)
    for number, (body, metrics) in enumerate(((b"", ()), (b"a body", (65_536, -1)), (bytes(range(256)), (2**31 - 1,)))):
        binding, sizes, info = _bind(make_lease()), (97, 193, 386, 772), write_info(_bind(make_lease()))
        envelope = bytes.fromhex(before[number]["envelope"]) if number < len(before) else b""
        try:
            is_good = open_body(envelope, binding, secret=secret) == Contents(body, metrics)
        except BodyError:
            is_good = False
        if not is_good:
            envelope = seal_body(Contents(body, metrics), binding, public_key=secret.public_key, sizes=sizes)
        yield {
            "operator": OPERATOR.public_key().public_bytes_raw().hex(),
            "deployment": DEPLOYMENT.hex(),
            "at_ms": DEADLINE_MS,
            "seed": seed.hex(),
            "secret": expanded.hex(),
            "statement": sign_epoch_key(key, make_signer("aggregator", AGGREGATOR)).hex(),
            "public_key": secret.public_key.hex(),
            "binding": _to_json(msgspec.to_builtins(binding, builtin_types=(bytes,))),
            "info": info.hex(),
            "sizes": list(sizes),
            "body": body.hex(),
            "metrics": list(metrics),
            "plaintext": secret.open(envelope, info).hex(),
            "envelope": envelope.hex(),
        }


def _describe_sizes() -> Iterator[Case]:
    """To which sizes the plaintext of a sealed update is padded, as its policy says."""
    for parameters in (1, 4_096, 4_097, 650, 1_000_000):
        for noise in (None, {"noise_multiplier": 1.0, "rho_max": 1.0}):
            rules = policy(tier="sealed", compression={"codec": "int8"}, privacy=noise)
            sizes = list(list_sizes(rules, parameters))
            yield {"parameters": parameters, "is_private": noise is not None, "sizes": sizes}


def _bind(lease: Lease) -> Binding:
    return Binding(
        deployment=lease.deployment,
        task=lease.task,
        policy_sha256=lease.policy_sha256,
        epoch=3,
        lease=lease.lease,
        device=lease.device,
        version=lease.version,
    )


def _draw(draw: np.random.Generator, size: int) -> Floats:
    return (draw.integers(-1024, 1025, size) / 1024).astype(np.float32)


def _base64(vector: Floats) -> str:
    return b64encode(vector.astype("<f4").tobytes()).decode()


def _to_json(value: Any) -> Any:
    match value:
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {key: _to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_to_json(item) for item in value]
        case _:
            return value


FILES: dict[str, Callable[[], Iterator[Case]]] = {
    "canonical.json": _describe_values,
    "messages.json": _describe_messages,
    "answers.json": _describe_answers,
    "updates.json": _describe_updates,
    "models.json": _describe_models,
    "sealed.json": _describe_sealed,
    "sizes.json": _describe_sizes,
    "production.json": describe_production,
}

if __name__ == "__main__":
    main()
