// A fedlog device: everything that an application imports.

export { fromHex, toHex } from "./bytes.js";
export { Device, type Promoted, type Setting, type Start, type Step, type Train, type Trained } from "./device.js";
export { FedlogError, type FedlogCode } from "./errors.js";
export { loadZstd } from "./frames.js";
export { Gateway, Refused, type Fetch } from "./gateway.js";
export { DeviceKey } from "./keys.js";
export type { Conditions } from "./messages.js";
export type { InUse, Production } from "./production.js";
export { BrowserStore, MemoryStore, type Store } from "./store.js";
export type { Task, Tensor } from "./task.js";
