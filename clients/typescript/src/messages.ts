// What devices say and hear, field by field in the order in which it is signed.

import { asBytes, asCount, asList, asMap, asText, decode, type Value } from "./canonical.js";
import type { EpochKey } from "./sealing.js";

export interface Conditions {
  batteryPercent: number;
  charging: boolean;
  unmetered: boolean;
  idle: boolean;
}

export interface BodyAddress {
  topic: string;
  partition: number;
  offsets: number[];
  sha256: Uint8Array;
  size: number;
  codec: string;
}

export interface Lease {
  deployment: Uint8Array;
  lease: string;
  task: string;
  device: string;
  publicKey: Uint8Array;
  version: number;
  modelSha256: Uint8Array;
  deadlineMs: number;
  policySha256: Uint8Array;
  // Under whose key the update is sealed, where its task is.
  epoch?: number;
}

export type Answer =
  | {
      kind: "granted";
      device: string;
      checkinSha256: Uint8Array;
      sealed: Uint8Array;
      lease: Lease;
      model: BodyAddress;
      // As the aggregator signed it; the key in it, once that was checked.
      epochStatement?: Uint8Array;
      epochKey?: EpochKey;
    }
  | { kind: "declined"; device: string; checkinSha256: Uint8Array; task: string; reason: string; retryAfterMs: number }
  | { kind: "outcome"; device: string; task: string; update: string; recordSha256: Uint8Array; outcome: string };

export interface Checkin extends Conditions {
  task: string;
  device: string;
  publicKey: Uint8Array;
  sentMs: number;
  samples: number;
  cohort: string;
  // The version that this device runs in production, where it says so.
  running?: number;
}

export interface Submission {
  sealed: Uint8Array;
  samples: number;
  metrics: number[];
  body: BodyAddress;
  inline: Uint8Array | null;
  // What clip and codec left, each a multiple of 2^-16; null where the task is private.
  fidelity: [kept: number, lost: number] | null;
}

export function describeCheckin(said: Checkin): Value {
  return {
    type: "DeviceCheckedIn/1",
    task: said.task,
    device: said.device,
    public_key: said.publicKey,
    sent_ms: said.sentMs,
    battery_percent: said.batteryPercent,
    charging: said.charging,
    unmetered: said.unmetered,
    idle: said.idle,
    samples: said.samples,
    cohort: said.cohort,
    ...(said.running !== undefined && { running: said.running }),
  };
}

export function describeAbandoned(lease: Lease, reason: string): Value {
  return {
    type: "LeaseAbandoned/1",
    task: lease.task,
    device: lease.device,
    public_key: lease.publicKey,
    lease: lease.lease,
    reason,
  };
}

export function describeUpdate(said: Submission): Value {
  return {
    type: "UpdateSubmitted/1",
    sealed: said.sealed,
    samples: said.samples,
    metrics: said.metrics,
    body: writeAddress(said.body),
    inline: said.inline,
    fidelity: said.fidelity,
  };
}

export function readAnswer(value: Value): Answer {
  const type = (value as { type?: Value }).type;
  switch (type) {
    case "Granted/1": {
      const said = asMap(value, type);
      const sealed = asBytes(said["sealed"]);
      return {
        kind: "granted",
        device: asText(said["device"]),
        checkinSha256: asBytes(said["checkin_sha256"]),
        sealed,
        lease: readLease(sealed),
        model: readAddress(said["model"]),
        ...(said["epoch_key"] !== undefined && { epochStatement: asBytes(said["epoch_key"]) }),
      };
    }
    case "Declined/1": {
      const said = asMap(value, type);
      return {
        kind: "declined",
        device: asText(said["device"]),
        checkinSha256: asBytes(said["checkin_sha256"]),
        task: asText(said["task"]),
        reason: asText(said["reason"]),
        retryAfterMs: asCount(said["retry_after_ms"]),
      };
    }
    default: {
      const said = asMap(value, "Outcome/1");
      return {
        kind: "outcome",
        device: asText(said["device"]),
        task: asText(said["task"]),
        update: asText(said["update"]),
        recordSha256: asBytes(said["record_sha256"]),
        outcome: asText(said["outcome"]),
      };
    }
  }
}

// Who signed it was checked with the answer that carried it; the aggregator checks signature and mark itself.
export function readLease(sealed: Uint8Array): Lease {
  const [signed] = asList(decode(sealed), 2);
  const [payload] = asList(decode(asBytes(signed)), 3);
  const said = asMap(decode(asBytes(payload)), "Lease/1");
  return {
    deployment: asBytes(said["deployment"]),
    lease: asText(said["lease"]),
    task: asText(said["task"]),
    device: asText(said["device"]),
    publicKey: asBytes(said["public_key"]),
    version: asCount(said["version"]),
    modelSha256: asBytes(said["model_sha256"]),
    deadlineMs: asCount(said["deadline_ms"]),
    policySha256: asBytes(said["policy_sha256"]),
    ...(said["epoch"] !== undefined && { epoch: asCount(said["epoch"]) }),
  };
}

export function readAddress(value: Value | undefined): BodyAddress {
  const said = value as { [key: string]: Value };
  return {
    topic: asText(said["topic"]),
    partition: asCount(said["partition"]),
    offsets: (said["offsets"] as Value[]).map(asCount),
    sha256: asBytes(said["sha256"]),
    size: asCount(said["size"]),
    codec: asText(said["codec"]),
  };
}

function writeAddress(body: BodyAddress): Value {
  const { topic, partition, offsets, sha256, size, codec } = body;
  return { topic, partition, offsets, sha256, size, codec };
}
