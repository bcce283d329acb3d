// Requests that a device has signed (RFC 9421, Ed25519): what an upload says of itself.

import type { DeviceKey } from "./keys.js";

// In every signature; the others where the request has them.
const ALWAYS = ["fedlog-lease"];
const WHERE_SENT = ["repr-digest", "upload-length", "upload-offset", "upload-complete"];
const NONCE_BYTES = 12;

// The headers with a signature, good for this request and once.
export async function signRequest(
  key: DeviceKey,
  method: string,
  url: URL,
  headers: Record<string, string>,
): Promise<Record<string, string>> {
  const sent = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const covered: [string, string][] = [
    ["@method", method],
    ["@authority", url.host],
    ["@path", url.pathname],
    ...[...ALWAYS, ...WHERE_SENT.filter((name) => sent.has(name))].map((name): [string, string] => [name, sent.get(name)!]),
  ];
  const names = covered.map(([name]) => `"${name}"`).join(" ");
  const nonce = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(NONCE_BYTES))));
  const created = Math.floor(Date.now() / 1000);
  const parameters = `(${names});created=${created};keyid="device";alg="ed25519";nonce="${nonce}";tag="fedlog-device"`;
  const lines = [...covered.map(([name, value]) => `"${name}": ${value}`), `"@signature-params": ${parameters}`];
  const signature = await key.sign(new TextEncoder().encode(lines.join("\n")));
  return { ...headers, "Signature-Input": `device=${parameters}`, Signature: `device=${toSequence(signature)}` };
}

// A byte sequence of RFC 9651.
export function toSequence(bytes: Uint8Array): string {
  return `:${btoa(String.fromCharCode(...bytes))}:`;
}
