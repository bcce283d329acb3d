// What is in production of a task, by the signed records of its rollout; and which version a device gets.
//
// A gateway passes the records on and is not believed: what stands beside them is for programs that need no proof.

import { fromHex, sha256 } from "./bytes.js";
import { FedlogError } from "./errors.js";
import type { BodyAddress } from "./messages.js";
import type { Trust } from "./trust.js";

const ROLE = "rollout";
const JOURNAL = "rollouts";
const TYPE = /^io\.fedlog\.rollout\.(canary|promoted|rolledback|halted)\.v1$/;
const text = new TextEncoder();

export interface InUse {
  version: number;
  model: BodyAddress;
}

export interface Production {
  // What everybody uses; undefined before the first promotion.
  promoted?: InUse;
  // What is on trial with a share of the devices of `cohorts`; none named: of all.
  candidate?: InUse & { share: number; cohorts: string[] };
  // The batch of the last record: a later one has a higher number.
  seq: number;
}

// What the records in a gateway's answer say, each checked. Raises FedlogError for what no rollout of the task has said.
export async function readProduction(told: unknown, trust: Trust, task: string): Promise<Production> {
  const records = (told as { records?: unknown } | null)?.records;
  if (!Array.isArray(records)) throw new FedlogError("malformed", "a gateway's word about production has records");
  let standing: Production = { seq: -1 };
  for (const record of records) {
    const said = await trust.readStatement(String(record), ROLE);
    const [, word] = TYPE.exec(String(said.type)) ?? [];
    if (!word || said.data?.task !== task || said.data.journal?.topic !== JOURNAL) {
      throw new FedlogError("not_trusted", `a record that is no rollout's word about ${task}`);
    }
    standing = evolve(standing, word, said.data);
  }
  return standing;
}

// The version that a device should run: the candidate where it is in its canary, else what is promoted.
export async function choose(task: string, device: string, cohort: string, { promoted, candidate }: Production): Promise<InUse | undefined> {
  if (!candidate || (candidate.cohorts.length > 0 && !candidate.cohorts.includes(cohort))) return promoted;
  return (await drawPlace(task, candidate.version, device)) < candidate.share ? candidate : promoted;
}

// Where a device stands in the canaries of a version, in [0, 1): whoever is in one is in each that is larger.
export async function drawPlace(task: string, version: number, device: string): Promise<number> {
  const digest = await sha256(text.encode(`${task}/${version}/${device}`));
  const view = new DataView(digest.buffer, digest.byteOffset);
  // The first 53 bits, which a number holds exactly.
  return (view.getUint32(0) * 2 ** 21 + (view.getUint32(4) >>> 11)) / 2 ** 53;
}

function evolve(standing: Production, word: string, data: any): Production {
  const seq: number = data.journal.seq;
  if (seq < standing.seq) return standing;
  switch (word) {
    case "canary": {
      if (data.version === standing.promoted?.version) return { ...standing, seq };
      const candidate = { version: data.version, model: readModelAddress(data.model), share: data.share, cohorts: data.cohorts };
      return { ...standing, seq, candidate };
    }
    case "promoted":
      return { seq, promoted: { version: data.version, model: readModelAddress(data.model) } };
    case "rolledback":
      // Where nothing was promoted before there is nothing that anybody should use.
      return data.to === null ? { seq } : { seq, promoted: { version: data.to, model: readModelAddress(data.model) } };
    default:
      return { ...standing, seq };
  }
}

function readModelAddress(told: any): BodyAddress {
  return { ...told, sha256: fromHex(String(told?.sha256)) };
}
