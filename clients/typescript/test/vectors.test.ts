// The vectors in schemas/vectors, which the Python package writes: this client shares no code with it, and agrees.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromHex, sha256, toHex } from "../src/bytes.js";
import { decode, encode, type Value } from "../src/canonical.js";
import { FedlogError } from "../src/errors.js";
import { compress, decompress, readModel } from "../src/frames.js";
import { DeviceKey } from "../src/keys.js";
import { describeAbandoned, describeCheckin, describeUpdate, readAddress, readAnswer, readLease, type Lease } from "../src/messages.js";
import { copy, listSizes, makeSuite, padBody, readEpochKey, requireEpochKey, seal, writeInfo } from "../src/sealing.js";
import type { Task } from "../src/task.js";
import { Trust } from "../src/trust.js";
import { addResidual, clip, encodeInt8, measureFidelity } from "../src/update.js";

// From build/test, where this file runs.
const FOLDER = new URL("../../../../schemas/vectors/", import.meta.url);

function readCases(name: string): any[] {
  const { cases } = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8"));
  assert(cases.length > 0);
  return cases;
}

function fromJson(value: any): Value {
  if (Array.isArray(value)) return value.map(fromJson);
  if (value === null || typeof value !== "object") return value;
  if (Object.keys(value).join() === "hex") return fromHex(value.hex);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromJson(item)]));
}

function fromFloats(text: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  return new Float32Array(bytes.buffer);
}

test("each value has the same bytes", () => {
  for (const { value, encoded } of readCases("canonical")) {
    assert.equal(toHex(encode(fromJson(value))), encoded);
    assert.deepEqual(decode(fromHex(encoded)), fromJson(value));
  }
});

test("bytes that nobody writes are refused", () => {
  // One as uint8; a map with a key twice; a byte behind the end; nothing.
  for (const bytes of ["cc01", "82a16101a16102", "0100", ""]) {
    assert.throws(() => decode(fromHex(bytes)), FedlogError);
  }
});

test("a device says the same, and signs it alike", async () => {
  for (const vector of readCases("messages")) {
    const key = await DeviceKey.fromSecret(fromHex(vector.secret));
    assert.equal(toHex(key.publicKey), vector.public_key);
    assert.equal(key.device, vector.device);
    const said = describe(vector.value);
    assert.deepEqual(said, fromJson(vector.value));
    const record = vector.what === "update" ? await key.signUpdate(said) : await key.signCheckin(said, fromHex(vector.deployment));
    assert.equal(toHex(record), vector.record);
    assert.equal(toHex(await sha256(record)), vector.record_sha256);
  }
});

function describe(value: any): Value {
  const said = fromJson(value) as any;
  switch (said.type) {
    case "DeviceCheckedIn/1":
      return describeCheckin({
        ...said,
        publicKey: said.public_key,
        sentMs: said.sent_ms,
        batteryPercent: said.battery_percent,
      });
    case "LeaseAbandoned/1":
      return describeAbandoned({ ...said, publicKey: said.public_key }, said.reason);
    default:
      return describeUpdate({ ...said, body: readAddress(said.body) });
  }
}

test("an answer is believed for its signatures alone", async () => {
  for (const vector of readCases("answers")) {
    const trust = new Trust(fromHex(vector.operator), fromHex(vector.deployment));
    const reading = trust.read(fromHex(vector.record), vector.role, vector.at_ms);
    if (vector.refused_because) {
      await assert.rejects(reading, { code: "not_trusted" }, vector.refused_because);
      continue;
    }
    const value = await reading;
    assert.deepEqual(value, fromJson(vector.value));
    const answer = readAnswer(value);
    if (answer.kind === "granted") assert.equal(toHex(answer.model.sha256), toHex(readLease(answer.sealed).modelSha256));
  }
});

test("a byte that was changed ends an answer", async () => {
  const vector = readCases("answers")[0];
  const record = fromHex(vector.record);
  for (const place of [10, 100, record.length - 1]) {
    const changed = record.map((byte, at) => (at === place ? byte ^ 1 : byte));
    await assert.rejects(new Trust(fromHex(vector.operator)).read(changed, vector.role, vector.at_ms), FedlogError);
  }
});

test("an update is clipped, rounded and carried over alike", async () => {
  for (const vector of readCases("updates")) {
    const clipping = { norm: vector.clip_norm, steps: vector.steps };
    const whole = addResidual(fromFloats(vector.delta_f4), vector.residual_f4 ? fromFloats(vector.residual_f4) : undefined);
    const protectedVector = clip(whole, clipping.norm);
    assert.deepEqual(protectedVector, fromFloats(vector.protected_f4));
    const { payload, left } = encodeInt8(protectedVector, clipping);
    assert.equal(Buffer.from(payload).toString("base64"), vector.payload);
    assert.deepEqual(left, fromFloats(vector.left_f4));
    const [kept, lost] = measureFidelity(whole, protectedVector, left);
    assert.equal(kept, vector.kept);
    assert(Math.abs(lost - vector.lost_about) <= 1);
    assert.deepEqual(await decompress(await compress(payload), payload.length), payload);
  }
});

test("a model is read, and never more than it should hold", async () => {
  for (const { parameters, body, sha256: digest, values_sha256 } of readCases("models")) {
    const frame = Uint8Array.from(Buffer.from(body, "base64"));
    assert.equal(toHex(await sha256(frame)), digest);
    const model = await readModel(frame, parameters);
    assert.equal(toHex(await sha256(new Uint8Array(model.buffer))), values_sha256);
    await assert.rejects(readModel(frame, parameters + 1), { code: "body_invalid" });
    await assert.rejects(readModel(frame.slice(0, -1), parameters), { code: "body_invalid" });
  }
});

test("NaN is not sent", () => {
  assert.throws(() => clip(Float32Array.of(1, NaN), 1), { code: "not_finite" });
});

test("a body is sealed to an epoch's key, and opens for its lease alone", async () => {
  const suite = makeSuite();
  for (const vector of readCases("sealed")) {
    const { operator, deployment, statement } = vector;
    const trust = new Trust(fromHex(operator), fromHex(deployment));
    const key = readEpochKey(await trust.read(fromHex(statement), "aggregator", vector.at_ms));
    await assert.rejects(trust.read(fromHex(statement), "selector", vector.at_ms), { code: "not_trusted" });
    const { lease, task } = describeBinding(vector.binding);
    assert.equal(toHex(key.publicKey), vector.public_key);
    assert.equal(requireEpochKey(lease, key), key);
    assert.throws(() => requireEpochKey({ ...lease, epoch: 4 }, key), { code: "not_trusted" });
    const info = writeInfo(task, lease, key.epoch);
    assert.equal(toHex(info), vector.info);
    const plain = padBody(fromHex(vector.body), vector.metrics, vector.sizes);
    assert.equal(toHex(plain), vector.plaintext);
    // The private half by X-Wing's seed, as another implementation expands it.
    const recipientKey = await suite.kem.importKey("raw", copy(fromHex(vector.seed)), false);
    const open = (envelope: Uint8Array, bound: Uint8Array) =>
      suite.open({ recipientKey, enc: copy(envelope.subarray(0, 1120)), info: copy(bound) }, copy(envelope.subarray(1120)));
    const own = await seal(plain, key.publicKey, info);
    for (const envelope of [fromHex(vector.envelope), own]) {
      assert.equal(envelope.length, plain.length + 1136);
      assert.deepEqual(new Uint8Array(await open(envelope, info)), plain);
      await assert.rejects(open(envelope, writeInfo(task, { ...lease, version: 13 }, key.epoch)));
    }
  }
});

test("a sealed task has the sizes that its aggregator expects", () => {
  for (const { parameters, is_private, sizes } of readCases("sizes")) {
    assert.deepEqual(listSizes({ parameters, isPrivate: is_private } as Task), sizes);
  }
});

function describeBinding(said: any): { lease: Lease; task: Task } {
  const { deployment, task, policy_sha256, epoch, lease, device, version } = fromJson(said) as any;
  return {
    lease: { deployment, lease, task, device, version, policySha256: policy_sha256, epoch } as Lease,
    task: { deployment, name: task, policySha256: policy_sha256 } as Task,
  };
}
