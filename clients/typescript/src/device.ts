// One device and one task: check in, and under a lease fetch, train, clip, write in int8, sign, hand in.
//
// What is trained is kept before it is sent, so that a page that is closed in between hands in the same bytes later.

import { areEqual, sha256 } from "./bytes.js";
import { FedlogError } from "./errors.js";
import { compress, readModel } from "./frames.js";
import { Gateway, Refused, sleep } from "./gateway.js";
import { DeviceKey } from "./keys.js";
import { describeAbandoned, describeCheckin, describeUpdate, type Answer, type BodyAddress, type Conditions, type Lease } from "./messages.js";
import { choose, type InUse } from "./production.js";
import { requireEpochKey, sealBody, type EpochKey } from "./sealing.js";
import type { Store } from "./store.js";
import { findObjection, type Task, type Tensor } from "./task.js";
import { addResidual, clip, decodeInt8, encodeInt8, measureFidelity, toFixed } from "./update.js";

// A larger body inside the record would be read by everybody who reads updates.
const INLINE_BYTES_MAX = 16 * 1024;
// The longest wait for an outcome after the lease's end.
const GRACE_MS = 3_600_000;
const REST_MS = 50;
const WAIT_MS_MAX = 86_400_000;
// Gone, and too large: no repeat mends that.
const ENDINGS = [410, 413];

export interface Start {
  // All parameters, in the order of `tensors`; not to be written to.
  parameters: Float32Array;
  tensors: Tensor[];
  version: number;
  policy: Task["policy"];
  signal: AbortSignal;
}

export interface Trained {
  // The parameters after training, as many as before.
  parameters: Float32Array;
  metrics?: { [name: string]: number };
}

export type Train = (start: Start) => Promise<Trained> | Trained;

// The model that a device is to use, as a rollout has signed it.
export interface Promoted {
  version: number;
  // All parameters, in the order of `tensors`.
  parameters: Float32Array;
  tensors: Tensor[];
}

export type Step =
  | { step: "declined"; reason: string }
  | { step: "granted"; version: number }
  | { step: "trained"; version: number }
  | { step: "settled"; version: number; outcome: string }
  | { step: "given_up"; reason: string }
  | { step: "unavailable"; reason: string };

export interface Setting {
  gateway: Gateway;
  task: string;
  store: Store;
  train: Train;
  // How many examples this device has.
  samples: number;
  cohort?: string;
  conditions?: () => Conditions;
  onStep?: (step: Step) => void;
  signal?: AbortSignal;
}

// What a training leaves: the update as it is sent, and what the codec has lost of it.
interface Made {
  samples: number;
  metrics: number[];
  fidelity: [number, number] | null;
  payload: Uint8Array;
  body: Uint8Array;
}

// An update on its way: kept from the end of its training until its outcome is known.
interface Kept extends Made {
  version: number;
  untilMs: number;
  sealed: Uint8Array;
  record?: Uint8Array;
}

export class Device {
  private readonly stop: AbortSignal;

  private constructor(
    private readonly setting: Setting,
    private readonly key: DeviceKey,
  ) {
    this.stop = setting.signal ?? new AbortController().signal;
  }

  // With the key in the store; the first time with a new one.
  static async open(setting: Setting): Promise<Device> {
    const pair = (await setting.store.get("key")) as CryptoKeyPair | undefined;
    const key = pair ? await DeviceKey.open(pair) : await DeviceKey.generate();
    if (!pair) await setting.store.put({ key: key.keyPair });
    return new Device(setting, key);
  }

  get id(): string {
    return this.key.device;
  }

  // Until the task is closed, or the signal says so.
  async run(): Promise<void> {
    let failures = 0;
    while (!this.stop.aborted) {
      try {
        if (!(await this.takePart())) return;
        failures = 0;
      } catch (error) {
        if (this.stop.aborted) return;
        // A gateway that has just come back may not know the task yet: what it refuses is asked again in its window.
        if (!(error instanceof Refused) && !(error instanceof FedlogError && error.code === "unavailable")) throw error;
        this.tell({ step: "unavailable", reason: error.message });
        const atLeastMs = error instanceof Refused ? error.retryMs : 0;
        await this.rest(Math.max(atLeastMs, Math.min(60_000, 500 * 2 ** failures++)));
      }
    }
  }

  // One lease from check-in to outcome, or one refusal. False once the task wants nothing more from this device.
  async takePart(): Promise<boolean> {
    const kept = (await this.setting.store.get(this.name("update"))) as Kept | undefined;
    if (kept && Date.now() > kept.untilMs + GRACE_MS) {
      await this.setting.store.put({ [this.name("update")]: undefined });
    } else if (kept) {
      await this.handIn(kept);
      return true;
    }
    const task = await this.setting.gateway.findTask(this.setting.task);
    if (!task) {
      await this.rest(4_000);
      return true;
    }
    const record = await this.writeCheckin(task);
    const answer = await this.setting.gateway.checkIn(record, this.stop);
    if (!answer) return true;
    await this.requireOwn(answer, record);
    if (answer.kind === "granted") await this.accept(task, answer);
    if (answer.kind !== "declined") return true;
    this.tell({ step: "declined", reason: answer.reason });
    if (answer.reason === "closed") return false;
    await this.rest(Math.min(answer.retryAfterMs, WAIT_MS_MAX));
    return true;
  }

  // The model to use: the one in production, or the one on trial where this device is among those that try it. Undefined
  // where nothing is. From then on check-ins say which it is.
  async fetchPromoted(): Promise<Promoted | undefined> {
    const { gateway, task: name, cohort, store } = this.setting;
    const task = await gateway.findTask(name);
    const production = task && (await gateway.findProduction(name));
    const before = (await store.get(this.name("production"))) as { seq: number; inUse?: InUse } | undefined;
    let inUse = before?.inUse;
    // What was seen once holds: no gateway leads a device back by holding all that is newer.
    if (production && production.seq >= (before?.seq ?? -1)) {
      inUse = await choose(name, this.key.device, cohort ?? "", production);
      await store.put({ [this.name("production")]: { seq: production.seq, inUse } });
    }
    if (!task || !inUse) return undefined;
    const parameters = await readModel(await gateway.fetchModel(inUse.model), task.parameters);
    return { version: inUse.version, parameters, tensors: task.tensors };
  }

  private async accept(task: Task, answer: Answer & { kind: "granted" }): Promise<void> {
    const { lease, sealed } = answer;
    const untilMs = Date.now() + task.leaseMs;
    this.tell({ step: "granted", version: lease.version });
    const objection = findObjection(task) ?? findDifference(task, lease, this.key);
    if (objection) return this.giveUp(task, lease, "task_unfit", objection);
    let key: EpochKey | undefined;
    let made: Made, left: Float32Array;
    try {
      key = task.isSealed ? requireEpochKey(lease, answer.epochKey) : undefined;
    } catch (error) {
      return this.giveUp(task, lease, "task_unfit", String(error));
    }
    try {
      const model = await readModel(await this.setting.gateway.fetchModel(answer.model), task.parameters);
      [made, left] = await this.make(task, lease, model);
      // What is told of a sealed update is told inside it.
      if (key) {
        made = { ...made, body: await sealBody(task, lease, key, made.body, made.metrics), metrics: [], fidelity: null };
      }
    } catch (error) {
      if (error instanceof FedlogError && error.code === "unavailable") throw error;
      if (this.stop.aborted) return;
      const reason = error instanceof FedlogError && error.code === "not_finite" ? "not_finite" : "training_failed";
      return this.giveUp(task, lease, reason, String(error));
    }
    const kept: Kept = { ...made, version: lease.version, untilMs, sealed };
    if (kept.body.length <= INLINE_BYTES_MAX) kept.record = await this.sign(kept);
    const carried = task.hasErrorFeedback ? { [this.name("residual")]: left } : {};
    await this.setting.store.put({ [this.name("update")]: kept, ...carried });
    this.tell({ step: "trained", version: lease.version });
    await this.handIn(kept);
  }

  // Train, clip and encode; with what the codec has lost.
  private async make(task: Task, lease: Lease, model: Float32Array): Promise<[Made, Float32Array]> {
    const residual = (await this.setting.store.get(this.name("residual"))) as Float32Array | undefined;
    let whole: Float32Array, clipped: Float32Array;
    let metrics: number[] = [];
    try {
      const trained = await this.train(task, lease, model);
      whole = addResidual(
        trained.parameters.map((value, place) => value - model[place]!),
        residual,
      );
      clipped = clip(whole, task.clipping.norm);
      metrics = report(task, trained);
    } catch (error) {
      // With privacy who arrives must not depend on data: whoever cannot train arrives with a zero vector.
      if (!task.isPrivate) throw error;
      whole = clipped = new Float32Array(task.parameters);
    }
    const { payload, left } = encodeInt8(clipped, task.clipping);
    const fidelity = task.isPrivate ? null : measureFidelity(whole, clipped, left);
    return [{ samples: this.setting.samples, metrics, fidelity, payload, body: await compress(payload) }, left];
  }

  private async train(task: Task, lease: Lease, model: Float32Array): Promise<Trained> {
    const signal = AbortSignal.any([this.stop, AbortSignal.timeout(task.leaseMs)]);
    const { tensors, policy } = task;
    // A copy, for the function is the user's, and the difference to the model is what is sent.
    const trained = await this.setting.train({ parameters: model.slice(), tensors, version: lease.version, policy, signal });
    if (trained.parameters.length === model.length) return trained;
    throw new RangeError(`${trained.parameters.length} parameters came back, and ${model.length} went in`);
  }

  // Until the aggregator has said what became of it, or nobody will any more.
  private async handIn(kept: Kept): Promise<void> {
    try {
      if (!kept.record) {
        kept.record = await this.sign(kept, await this.setting.gateway.store(kept.body, kept.sealed, this.key));
        await this.setting.store.put({ [this.name("update")]: kept });
      }
      const answer = await this.setting.gateway.submit(kept.record, kept.sealed, this.stop);
      if (answer?.kind === "outcome" && areEqual(answer.recordSha256, await sha256(kept.record))) {
        await this.settle(kept, answer.outcome);
      }
    } catch (error) {
      // Nobody will take it any more: what it would have changed is carried over.
      if (!(error instanceof Refused) || !ENDINGS.includes(error.status)) throw error;
      await this.settle(kept, error.problem);
    }
  }

  private async settle(kept: Kept, outcome: string): Promise<void> {
    const residual = (await this.setting.store.get(this.name("residual"))) as Float32Array | undefined;
    const isLost = outcome !== "admitted" && outcome !== "duplicate";
    const task = residual && isLost ? await this.setting.gateway.findTask(this.setting.task) : undefined;
    const entries: { [name: string]: unknown } = { [this.name("update")]: undefined };
    if (residual && task?.hasErrorFeedback) {
      entries[this.name("residual")] = addResidual(residual, decodeInt8(kept.payload, task.clipping, residual.length));
    }
    await this.setting.store.put(entries);
    this.tell({ step: "settled", version: kept.version, outcome });
    await this.rest(REST_MS);
  }

  private async giveUp(task: Task, lease: Lease, reason: string, why: string): Promise<void> {
    this.tell({ step: "given_up", reason: why });
    // With privacy nothing is said that an example could have caused.
    if (!(task.isPrivate && reason !== "task_unfit")) {
      const record = await this.key.signCheckin(describeAbandoned(lease, reason), task.deployment);
      await this.setting.gateway.abandon(record);
    }
    await this.rest(4_000);
  }

  private async sign(kept: Kept, stored?: BodyAddress): Promise<Uint8Array> {
    const inline = { topic: "updates", partition: 0, offsets: [], sha256: await sha256(kept.body), size: kept.body.length, codec: "int8" };
    const { sealed, samples, metrics, fidelity } = kept;
    const body = stored ?? inline;
    return this.key.signUpdate(describeUpdate({ sealed, samples, metrics, body, inline: stored ? null : kept.body, fidelity }));
  }

  private async writeCheckin(task: Task): Promise<Uint8Array> {
    const before = ((await this.setting.store.get("sent_ms")) as number | undefined) ?? -1;
    const sentMs = Math.max(before + 1, Date.now());
    await this.setting.store.put({ sent_ms: sentMs });
    const { inUse } = ((await this.setting.store.get(this.name("production"))) ?? {}) as { inUse?: InUse };
    const conditions = this.setting.conditions?.() ?? { batteryPercent: 100, charging: true, unmetered: true, idle: true };
    const said = describeCheckin({
      ...conditions,
      task: task.name,
      device: this.key.device,
      publicKey: this.key.publicKey,
      sentMs,
      samples: this.setting.samples,
      cohort: this.setting.cohort ?? "",
      ...(inUse && { running: inUse.version }),
    });
    return this.key.signCheckin(said, task.deployment);
  }

  // An answer to what was not asked, or for somebody else, is none.
  private async requireOwn(answer: Answer, record: Uint8Array): Promise<void> {
    const isOwn = answer.device === this.key.device && answer.kind !== "outcome";
    if (!isOwn || !areEqual(answer.checkinSha256, await sha256(record))) {
      throw new FedlogError("not_trusted", "the gateway gave an answer to another check-in");
    }
  }

  private name(what: string): string {
    return `${this.setting.task}/${what}`;
  }

  private tell(step: Step): void {
    this.setting.onStep?.(step);
  }

  // Up to a quarter longer, so that devices which were declined together do not return together.
  private async rest(ms: number): Promise<void> {
    await sleep(ms * (1 + Math.random() / 4), this.stop).catch(() => undefined);
  }
}

// What the policy asks for, in its order; nothing where the training does not give all of it.
function report(task: Task, trained: Trained): number[] {
  const told = task.reports.map((name) => trained.metrics?.[name] ?? NaN);
  return told.some(Number.isNaN) ? [] : told.map(toFixed);
}

function findDifference(task: Task, lease: Lease, key: DeviceKey): string | undefined {
  if (!areEqual(task.policySha256, lease.policySha256)) return "the task has another policy than the lease";
  if (!areEqual(task.deployment, lease.deployment)) return "the task lives in another deployment than the lease";
  if (lease.device !== key.device || !areEqual(lease.publicKey, key.publicKey)) return "the lease is another device's";
  if (lease.task !== task.name) return "the lease is of another task";
  return undefined;
}
