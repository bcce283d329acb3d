// A device that asks what is in production, and says the version and the digest of the parameters that it got.

import { Device, Gateway, MemoryStore, fromHex, toHex } from "../src/index.js";
import { sha256 } from "../src/bytes.js";

const asked = JSON.parse(process.argv[2]!);
const device = await Device.open({
  gateway: new Gateway(asked.gateway, fromHex(asked.operator)),
  task: asked.task,
  store: new MemoryStore(),
  samples: 1,
  train: ({ parameters }) => ({ parameters }),
});
const found = await device.fetchPromoted();
const bytes = found && new Uint8Array(found.parameters.buffer, found.parameters.byteOffset, found.parameters.byteLength);
console.log(JSON.stringify({ version: found?.version ?? null, sha256: bytes ? toHex(await sha256(bytes)) : null }));
