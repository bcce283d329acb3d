// A gateway over HTTP, in the words of docs/device-protocol.md.

import { asSource, sha256, toHex } from "./bytes.js";
import { asBytes, asMap, decode } from "./canonical.js";
import { FedlogError } from "./errors.js";
import { readAnswer, type Answer, type BodyAddress } from "./messages.js";
import type { DeviceKey } from "./keys.js";
import { readProduction, type Production } from "./production.js";
import { readEpochKey } from "./sealing.js";
import { signRequest, toSequence } from "./signing.js";
import { readTask, type Task } from "./task.js";
import { Trust } from "./trust.js";

const RECORD = "application/vnd.fedlog.record";
const PARTIAL = "application/partial-upload";
// A request that waits for an answer is held for so long.
const WAIT_S = 20;
// Of a cut upload at most this is sent twice.
const CHUNK_BYTES = 512 * 1024;
const RETRIES_MAX = 6;

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

// What the gateway said instead: its code, and when to ask again.
export class Refused extends FedlogError {
  constructor(
    readonly problem: string,
    readonly status: number,
    readonly retryMs: number,
    detail: string,
  ) {
    super(status === 429 || status >= 500 ? "unavailable" : "refused", detail);
  }
}

export class Gateway {
  private trusted: Trust | undefined;
  private readonly tasks = new Map<string, Task>();

  // `url`: where the gateway is. `operator`: the operator's public key (`fedlog key show`), 32 bytes.
  constructor(
    private readonly url: string,
    private readonly operator: Uint8Array,
    private readonly fetcher: Fetch = (input, init) => fetch(input, init),
  ) {}

  // The task as the operator created it; undefined while there is none of this name.
  async findTask(name: string): Promise<Task | undefined> {
    const known = this.tasks.get(name);
    if (known) return known;
    const trust = await this.trust();
    const response = await this.ask(`/v1/tasks/${encodeURIComponent(name)}`, {}, [200, 404]);
    if (response.status === 404) return undefined;
    const task = readTask(await trust.readCreation(await readBytes(response), readAppendedMs(response)));
    if (task.name !== name) throw new FedlogError("not_trusted", `the gateway gave task ${task.name} for ${name}`);
    this.tasks.set(name, task);
    return task;
  }

  // What a rollout has put in production, by its signed records; undefined where it has put nothing there.
  async findProduction(task: string): Promise<Production | undefined> {
    const trust = await this.trust();
    const response = await this.ask(`/v1/tasks/${encodeURIComponent(task)}/production`, {}, [200, 404]);
    return response.status === 404 ? undefined : readProduction(await response.json().catch(() => undefined), trust, task);
  }

  // The bytes of a model, which are those of its digest.
  async fetchModel(model: BodyAddress): Promise<Uint8Array> {
    const body = await readBytes(await this.ask(`/v1/models/${toHex(model.sha256)}`, {}));
    if (toHex(await sha256(body)) !== toHex(model.sha256)) throw new FedlogError("not_trusted", "the model is another one");
    return body;
  }

  // The selector's answer; undefined where none came in time.
  async checkIn(record: Uint8Array, signal?: AbortSignal): Promise<Answer | undefined> {
    const response = await this.post("/v1/check-ins", record, {}, signal);
    if (response.status !== 202) return this.read(response, "selector");
    const at = response.headers.get("Location");
    return at ? this.hear(at, "selector", signal) : undefined;
  }

  // Says that there will be no update under the lease; nobody answers.
  async abandon(record: Uint8Array): Promise<void> {
    await this.post("/v1/check-ins", record, {});
  }

  // What became of an update; undefined where the aggregator has not said so in time.
  async submit(record: Uint8Array, sealed: Uint8Array, signal?: AbortSignal): Promise<Answer | undefined> {
    const response = await this.post("/v1/updates", record, lease(sealed), signal);
    if (response.status !== 202) return this.read(response, "aggregator");
    return this.hear(response.headers.get("Location") ?? "", "aggregator", signal, lease(sealed));
  }

  // Stores a body and says where; goes on where an upload was cut, however often. `key` is the lease's device.
  async store(body: Uint8Array, sealed: Uint8Array, key: DeviceKey): Promise<BodyAddress> {
    const digest = await sha256(body);
    const started = await this.askSigned(key, "POST", "/v1/uploads", {
      ...lease(sealed),
      "Repr-Digest": `sha-256=${toSequence(digest)}`,
      "Upload-Length": String(body.length),
      "Upload-Complete": "?0",
    });
    const at = started.headers.get("Location") ?? "";
    let offset = readOffset(started);
    let furthest = offset;
    for (let failures = 0; ; ) {
      const end = Math.min(offset + CHUNK_BYTES, body.length);
      try {
        const headers = {
          ...lease(sealed),
          "Content-Type": PARTIAL,
          "Upload-Offset": String(offset),
          "Upload-Complete": end === body.length ? "?1" : "?0",
        };
        const response = await this.askSigned(key, "PATCH", at, headers, body.subarray(offset, end));
        if (end === body.length) return readStored(await response.json(), digest);
        offset = readOffset(response);
        // A gateway that goes back and forth would have all of it again and again.
        if (!(offset > furthest)) throw new FedlogError("unavailable", "the gateway takes no more of the body");
        furthest = offset;
        failures = 0;
      } catch (error) {
        const isLost = error instanceof FedlogError && (error.code === "unavailable" || (error as Refused).problem === "offset_differs");
        if (!isLost || ++failures > RETRIES_MAX) throw error;
        await sleep(250 * 2 ** failures * (0.5 + Math.random()));
        offset = readOffset(await this.askSigned(key, "HEAD", at, lease(sealed)));
      }
    }
  }

  private async askSigned(
    key: DeviceKey,
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: Uint8Array,
  ): Promise<Response> {
    const signed = await signRequest(key, method, new URL(path, this.url), headers);
    return this.ask(path, { method, headers: signed, ...(body && { body: asSource(body) as BodyInit }) });
  }

  private async hear(at: string, role: string, signal?: AbortSignal, headers = {}): Promise<Answer | undefined> {
    const response = await this.ask(at, { headers: { Prefer: `wait=${WAIT_S}`, ...headers }, ...(signal && { signal }) });
    return response.status === 202 ? undefined : this.read(response, role);
  }

  private async read(response: Response, role: string): Promise<Answer> {
    const trust = await this.trust();
    const answer = readAnswer(await trust.read(await readBytes(response), role, Date.now()));
    // The aggregator's own word: a selector that is taken over would have updates sealed to a key of its own.
    if (answer.kind === "granted" && answer.epochStatement) {
      answer.epochKey = readEpochKey(await trust.read(answer.epochStatement, "aggregator", Date.now()));
    }
    return answer;
  }

  private post(path: string, record: Uint8Array, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    return this.ask(path, {
      method: "POST",
      headers: { "Content-Type": RECORD, Prefer: `wait=${WAIT_S}`, ...headers },
      body: asSource(record) as BodyInit,
      ...(signal && { signal }),
    });
  }

  // The operator's roles in this deployment, whose name the operator has signed too.
  private async trust(): Promise<Trust> {
    if (!this.trusted) {
      const response = await this.ask("/v1/deployment", {});
      const founded = await new Trust(this.operator).readCreation(await readBytes(response), readAppendedMs(response));
      this.trusted = new Trust(this.operator, asBytes(asMap(founded, "DeploymentFounded/1")["deployment"]));
    }
    return this.trusted;
  }

  private async ask(path: string, init: RequestInit, accepted?: number[]): Promise<Response> {
    let response: Response;
    try {
      response = await this.fetcher(new URL(path, this.url).href, { cache: "no-store", ...init });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new FedlogError("unavailable", `${this.url} cannot be reached: ${String(error)}`, { cause: error });
    }
    if (accepted ? accepted.includes(response.status) : response.ok) return response;
    throw await readProblem(response);
  }
}

function lease(sealed: Uint8Array): Record<string, string> {
  return { "Fedlog-Lease": toSequence(sealed) };
}

async function readBytes(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await response.arrayBuffer());
}

function readAppendedMs(response: Response): number {
  return Number(response.headers.get("Fedlog-Appended") ?? Date.now());
}

function readOffset(response: Response): number {
  return Number(response.headers.get("Upload-Offset") ?? 0);
}

// What the device is about to sign: it has to be its own body that lies there.
function readStored(value: any, digest: Uint8Array): BodyAddress {
  if (value.sha256 !== toHex(digest)) throw new FedlogError("not_trusted", "the gateway stored another body");
  return { ...value, sha256: digest };
}

async function readProblem(response: Response): Promise<Refused> {
  const told = await response.json().catch(() => ({}));
  const [, min, max] = /min=(\d+), max=(\d+)/.exec(response.headers.get("Fedlog-Retry") ?? "") ?? [];
  const [from, to] = [Number(min ?? 2_000), Number(max ?? 10_000)];
  const detail = String(told.detail || told.title || response.statusText);
  return new Refused(String(told.code ?? ""), response.status, from + Math.random() * (to - from), detail);
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
