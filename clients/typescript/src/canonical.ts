// The one encoding of a value: msgpack with the shortest form of each number, and keys in the order of the event.

import { Decoder, Encoder } from "@msgpack/msgpack";

import { areEqual } from "./bytes.js";
import { FedlogError } from "./errors.js";

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [key: string]: Value };

// No message of a device is longer.
const BYTES_MAX = 512 * 1024;
const encoder = new Encoder<undefined>();
const decoder = new Decoder<undefined>();

export function encode(value: Value): Uint8Array {
  return encoder.encode(value);
}

// Raises FedlogError for bytes that `encode` would not have written: a key twice, a longer form, bytes behind the end.
export function decode(bytes: Uint8Array): Value {
  const value = decodeAnyForm(bytes);
  if (!areEqual(encode(value), bytes)) throw new FedlogError("malformed", "not the canonical encoding");
  return value;
}

// For what holds fractions: JavaScript does not tell 1.0 from 1, so that a whole fraction would be written shorter.
export function decodeAnyForm(bytes: Uint8Array): Value {
  if (bytes.length > BYTES_MAX) throw new FedlogError("malformed", `${bytes.length} bytes, at most ${BYTES_MAX}`);
  try {
    return decoder.decode(bytes) as Value;
  } catch (error) {
    throw new FedlogError("malformed", `no msgpack: ${String(error)}`, { cause: error });
  }
}

export function asMap(value: Value | undefined, type: string): { [key: string]: Value } {
  const table = asTable(value);
  if (table["type"] === type) return table;
  throw new FedlogError("malformed", `this is no ${type}`);
}

export function asBytes(value: Value | undefined): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new FedlogError("malformed", "bytes were expected");
}

export function asText(value: Value | undefined): string {
  if (typeof value === "string") return value;
  throw new FedlogError("malformed", "a text was expected");
}

export function asCount(value: Value | undefined): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new FedlogError("malformed", "a count was expected");
}

export function asNumber(value: Value | undefined): number {
  if (typeof value === "number") return value;
  throw new FedlogError("malformed", "a number was expected");
}

export function asList(value: Value | undefined, size?: number): Value[] {
  if (Array.isArray(value) && (size === undefined || value.length === size)) return value;
  throw new FedlogError("malformed", `a list${size === undefined ? "" : ` of ${size}`} was expected`);
}

export function asTable(value: Value | undefined): { [key: string]: Value } {
  if (typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)) return value;
  throw new FedlogError("malformed", "a table was expected");
}
