// A body is one zstd frame around a payload of known length.

import { compress as zstdCompress, decompress as zstdDecompress, init } from "@bokuweb/zstd-wasm";

import { FedlogError } from "./errors.js";

const MAGIC = 0xfd2fb528;
const LEVEL = 1;
let started: Promise<void> | undefined;

// Loads zstd once; a browser is told where its WebAssembly lies.
export function loadZstd(wasmUrl?: string): Promise<void> {
  // Its types know only the build for Node, which finds the file itself.
  return (started ??= (init as (path?: string) => Promise<void>)(wasmUrl));
}

export async function compress(payload: Uint8Array): Promise<Uint8Array> {
  await loadZstd();
  return zstdCompress(payload, LEVEL);
}

// Exactly `size` bytes: what a frame declares is looked at before memory is taken for it. Raises FedlogError.
export async function decompress(frame: Uint8Array, size: number): Promise<Uint8Array> {
  const declared = readDeclaredSize(frame);
  if (declared !== size) throw new FedlogError("body_invalid", `the frame declares ${declared} bytes, not ${size}`);
  await loadZstd();
  try {
    const payload = zstdDecompress(frame);
    if (payload.length === size) return payload;
  } catch (error) {
    throw new FedlogError("body_invalid", `the frame cannot be opened: ${String(error)}`, { cause: error });
  }
  throw new FedlogError("body_invalid", `the frame does not hold ${size} bytes`);
}

// A model's vector: float32, little-endian, in one frame.
export async function readModel(body: Uint8Array, parameters: number): Promise<Float32Array> {
  const payload = await decompress(body, 4 * parameters);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return Float32Array.from({ length: parameters }, (_, place) => view.getFloat32(4 * place, true));
}

// RFC 8878, section 3.1.1.1.
function readDeclaredSize(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 6 || view.getUint32(0, true) !== MAGIC) throw new FedlogError("body_invalid", "no zstd frame");
  const descriptor = view.getUint8(4);
  const [sizeFlag, isSingle, dictionary] = [descriptor >> 6, (descriptor >> 5) & 1, descriptor & 3];
  if (dictionary) throw new FedlogError("body_invalid", "the frame asks for a dictionary");
  const at = 5 + (isSingle ? 0 : 1);
  const bytes = sizeFlag === 0 ? isSingle : 1 << sizeFlag;
  if (frame.length < at + bytes) throw new FedlogError("body_invalid", "the frame ends in its head");
  switch (bytes) {
    case 1:
      return view.getUint8(at);
    case 2:
      return view.getUint16(at, true) + 256;
    case 4:
      return view.getUint32(at, true);
    case 8:
      return Number(view.getBigUint64(at, true));
    default:
      throw new FedlogError("body_invalid", "the frame does not say how long it is");
  }
}
