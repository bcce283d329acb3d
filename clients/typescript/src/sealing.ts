// The tier sealed: a body that leaves this device opens with the aggregator's key of one epoch, and for one lease alone.
//
// HPKE (RFC 9180), base mode, X-Wing, HKDF-SHA256, ChaCha20-Poly1305; schemas/sealing/envelopes.py has the other half.

import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";

import { areEqual, join } from "./bytes.js";
import { asBytes, asCount, asMap, asText, encode, type Value } from "./canonical.js";
import { FedlogError } from "./errors.js";
import type { Lease } from "./messages.js";
import type { Task } from "./task.js";
import { BLOCK } from "./update.js";

// The longest head: two arrays, and nine bytes for each of 32 metrics and the length.
const HEAD_BYTES_MAX = 16 + 9 * 33;
const LENGTH_BYTES = 2;
// The full size and its half, quarter and eighth: two bits are all that a length tells.
const HALVINGS = 3;

export interface EpochKey {
  deployment: Uint8Array;
  task: string;
  epoch: number;
  publicKey: Uint8Array;
}

export function makeSuite(): CipherSuite {
  return new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Chacha20Poly1305() });
}

// Who signed it was checked by whoever read the answer that it came with.
export function readEpochKey(value: Value): EpochKey {
  const said = asMap(value, "EpochKey/1");
  return {
    deployment: asBytes(said["deployment"]),
    task: asText(said["task"]),
    epoch: asCount(said["epoch"]),
    publicKey: asBytes(said["public_key"]),
  };
}

// The key that a lease names; raises FedlogError where it names none, or its answer brought another.
export function requireEpochKey(lease: Lease, key: EpochKey | undefined): EpochKey {
  const isNamed = key && areEqual(key.deployment, lease.deployment) && key.task === lease.task && key.epoch === lease.epoch;
  if (isNamed) return key;
  throw new FedlogError("not_trusted", `task ${lease.task} is sealed, and its lease came with no key of its aggregator`);
}

// What an envelope is bound to: with one other word in it nothing opens.
export function writeInfo(task: Task, lease: Lease, epoch: number): Uint8Array {
  return encode({
    type: "SealedBody/1",
    deployment: task.deployment,
    task: task.name,
    policy_sha256: task.policySha256,
    epoch,
    lease: lease.lease,
    device: lease.device,
    version: lease.version,
  });
}

// The sizes to which a plaintext is padded, ascending; with privacy there is one, or a zero vector would show.
export function listSizes(task: Task): number[] {
  const payload = 4 * Math.ceil(task.parameters / BLOCK) + task.parameters;
  const full = LENGTH_BYTES + HEAD_BYTES_MAX + payload + Math.floor(payload / 256) + 1024;
  const halvings = task.isPrivate ? 0 : HALVINGS;
  return Array.from({ length: halvings + 1 }, (_, place) => Math.floor(full / 2 ** (halvings - place)));
}

export function padBody(body: Uint8Array, metrics: number[], sizes: number[]): Uint8Array {
  const head = encode([body.length, metrics]);
  const length = Uint8Array.of(head.length & 0xff, head.length >> 8);
  const plain = join(length, head, body);
  const size = sizes.find((each) => each >= plain.length);
  if (size === undefined) throw new FedlogError("malformed", `a body of ${body.length} bytes is longer than any of its codec`);
  return join(plain, new Uint8Array(size - plain.length));
}

// The envelope, another each time: the encapsulated key, then the ciphertext with its tag.
export async function seal(plain: Uint8Array, publicKey: Uint8Array, info: Uint8Array): Promise<Uint8Array> {
  const suite = makeSuite();
  const recipientPublicKey = await suite.kem.deserializePublicKey(copy(publicKey));
  const { enc, ct } = await suite.seal({ recipientPublicKey, info: copy(info) }, copy(plain));
  return join(new Uint8Array(enc), new Uint8Array(ct));
}

// The body of an update with what is reported of it, for the aggregator of its lease.
export async function sealBody(task: Task, lease: Lease, key: EpochKey, body: Uint8Array, metrics: number[]): Promise<Uint8Array> {
  return seal(padBody(body, metrics, listSizes(task)), key.publicKey, writeInfo(task, lease, key.epoch));
}

// A buffer of its own, because a view may be on a part of a larger one.
export function copy(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}
