// A fedlog device: everything that an application imports.

export { fromHex, toHex } from "./bytes.js";
export { FedlogError, type FedlogCode } from "./errors.js";
export { loadZstd } from "./frames.js";
export { DeviceKey } from "./keys.js";
export type { Conditions } from "./messages.js";
