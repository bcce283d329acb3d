// A task as the operator created it, as far as a device needs it; and why this client would not train it.

import { asBytes, asCount, asList, asMap, asNumber, asTable, asText, type Value } from "./canonical.js";
import { readAddress, type BodyAddress } from "./messages.js";
import type { Clipping } from "./update.js";

// By the name of the same limit in the Python client: an address may name any amount of memory.
const PARAMETERS_MAX = 64 * 2 ** 20;
const CODECS = ["int8"];
const TIERS = ["plain", "sealed"];

export interface Tensor {
  name: string;
  shape: number[];
  // "trained" or "averaged": parts of the vector, in this order.
  role: string;
}

export interface Task {
  name: string;
  deployment: Uint8Array;
  policySha256: Uint8Array;
  tensors: Tensor[];
  parameters: number;
  model: BodyAddress;
  // The policy as the log has it: names and units are those of docs/policy.md.
  policy: { [key: string]: Value };
  clipping: Clipping;
  hasErrorFeedback: boolean;
  isPrivate: boolean;
  isSealed: boolean;
  reports: string[];
  leaseMs: number;
}

export function readTask(value: Value): Task {
  const said = asMap(value, "TaskCreated/1");
  const policy = asTable(said["policy"]);
  const clipping = asTable(policy["clipping"]);
  return {
    name: asText(said["task"]),
    deployment: asBytes(said["deployment"]),
    policySha256: asBytes(said["policy_sha256"]),
    tensors: asList(said["tensors"]).map(readTensor).filter(({ role }) => role !== "frozen"),
    parameters: asCount(said["parameters"]),
    model: readAddress(said["model"]),
    policy,
    clipping: { norm: asNumber(clipping["norm"]), steps: asNumber(clipping["steps"]) },
    hasErrorFeedback: asTable(policy["compression"])["error_feedback"] === true,
    isPrivate: policy["privacy"] !== null,
    isSealed: policy["tier"] === "sealed",
    reports: asList(asTable(policy["evaluation"])["report"]).map(asText),
    leaseMs: Math.round(asNumber(asTable(policy["selection"])["lease_s"]) * 1000),
  };
}

// Undefined where this client can train the task.
export function findObjection(task: Task): string | undefined {
  const { policy } = task;
  const codec = asText(asTable(policy["compression"])["codec"]);
  if (policy["kind"] !== "train") return `it is a task of kind ${String(policy["kind"])}`;
  if (!TIERS.includes(asText(policy["tier"]))) return `its tier is ${String(policy["tier"])}`;
  if (!CODECS.includes(codec)) return `its codec is ${codec}, and this client writes ${CODECS.join(", ")}`;
  if (task.parameters > PARAMETERS_MAX) return `it has ${task.parameters} parameters, at most ${PARAMETERS_MAX}`;
  const known = task.tensors.reduce((sum, { shape }) => sum + shape.reduce((size, side) => size * side, 1), 0);
  if (known !== task.parameters) return "its tensors do not make up its parameters";
  return undefined;
}

function readTensor(value: Value): Tensor {
  const [name, shape, role] = asList(value, 3);
  return { name: asText(name), shape: asList(shape).map(asCount), role: asText(role) };
}
