// What happens to an update before it leaves the device: its norm is bounded, then it is written in int8 on the grid.

import { FedlogError } from "./errors.js";

// Elements that share one multiplier.
export const BLOCK = 4096;
const INT8_MAX = 127;
const METRIC_ONE = 65_536;
const METRIC_MAX = 2 ** 31 - 1;

export interface Clipping {
  norm: number;
  steps: number;
}

export interface Encoded {
  // ceil(d / 4096) multipliers as uint32, then d elements as int8; little-endian.
  payload: Uint8Array;
  // What does not arrive, to be added to the next update.
  left: Float32Array;
}

// The L2 norm in float64: the sum of a million squares needs more digits than float32 has.
export function measureNorm(vector: Float32Array): number {
  let sum = 0;
  for (const element of vector) sum += element * element;
  return Math.sqrt(sum);
}

// `delta` scaled down to `norm` where it is longer, and never up. Raises FedlogError for NaN and infinities.
export function clip(delta: Float32Array, norm: number): Float32Array {
  const length = measureNorm(delta);
  if (!Number.isFinite(length)) {
    throw new FedlogError("not_finite", "the update holds NaN or infinity; nothing is sent. Try a smaller learning rate");
  }
  if (length <= norm) return delta;
  // In float32 throughout, as numpy multiplies.
  const scale = Math.fround(norm / length);
  return delta.map((element) => element * scale);
}

export function addResidual(delta: Float32Array, residual: Float32Array | undefined): Float32Array {
  // One of another size belongs to another model.
  if (!residual || residual.length !== delta.length) return delta;
  return delta.map((element, place) => element + residual[place]!);
}

export function encodeInt8(vector: Float32Array, clipping: Clipping): Encoded {
  const step = clipping.norm / clipping.steps;
  const blocks = Math.ceil(vector.length / BLOCK);
  const payload = new Uint8Array(4 * blocks + vector.length);
  const view = new DataView(payload.buffer);
  const left = new Float32Array(vector.length);
  for (let block = 0; block < blocks; block++) {
    const start = block * BLOCK;
    const end = Math.min(start + BLOCK, vector.length);
    let largest = 0;
    for (let place = start; place < end; place++) largest = Math.max(largest, Math.abs(round(vector[place]! / step)));
    // The smallest that brings the largest element down to what a byte holds.
    const multiplier = Math.max(1, Math.ceil(largest / INT8_MAX));
    view.setUint32(4 * block, multiplier, true);
    for (let place = start; place < end; place++) {
      const value = round(round(vector[place]! / step) / multiplier);
      view.setInt8(4 * blocks + place, value);
      left[place] = vector[place]! - Math.fround(value * multiplier * step);
    }
  }
  return { payload, left };
}

// What a server reads from such a payload.
export function decodeInt8(payload: Uint8Array, clipping: Clipping, parameters: number): Float32Array {
  const step = clipping.norm / clipping.steps;
  const blocks = Math.ceil(parameters / BLOCK);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const vector = new Float32Array(parameters);
  for (let place = 0; place < parameters; place++) {
    const multiplier = view.getUint32(4 * Math.floor(place / BLOCK), true);
    vector[place] = view.getInt8(4 * blocks + place) * multiplier * step;
  }
  return vector;
}

// A metric as an update tells it: the nearest multiple of 2^-16, cut to what can be told.
export function toFixed(value: number): number {
  return Number.isNaN(value) ? METRIC_MAX : round(Math.max(-METRIC_MAX, Math.min(METRIC_MAX, value * METRIC_ONE)));
}

// What clip and codec left of `whole`, as the update tells it: for people to look at, and believed no further.
export function measureFidelity(whole: Float32Array, clipped: Float32Array, left: Float32Array): [kept: number, lost: number] {
  const arriving = measureNorm(clipped);
  // Rounded down, so that whatever was clipped is below one, however little that was.
  const kept =
    clipped === whole ? METRIC_ONE : Math.min(METRIC_ONE - 1, Math.floor((arriving / measureNorm(whole)) * METRIC_ONE));
  return [kept, arriving ? Math.min(METRIC_MAX, round((measureNorm(left) / arriving) * METRIC_ONE)) : 0];
}

// To the nearest whole number, halves to the even one, as IEEE 754 rounds.
function round(value: number): number {
  const floor = Math.floor(value);
  const beyond = value - floor;
  if (beyond !== 0.5) return beyond < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
