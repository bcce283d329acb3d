// A device whose update is too long for its record, and whose uploads are cut: every other request that carries bytes is
// ended as soon as it has begun. What is trained is noise.

import { Device, Gateway, MemoryStore, fromHex, type Fetch } from "../src/index.js";

const asked = JSON.parse(process.argv[2]!);
let carried = 0;

const cutting: Fetch = async (input, init) => {
  if (init?.method !== "PATCH" || carried++ % 2) return fetch(input, init);
  const cut = new AbortController();
  setTimeout(() => cut.abort(), 1);
  console.log(JSON.stringify({ step: "cut" }));
  return fetch(input, { ...init, signal: cut.signal });
};

const device = await Device.open({
  gateway: new Gateway(asked.gateway, fromHex(asked.operator), cutting),
  task: asked.task,
  store: new MemoryStore(),
  samples: 1,
  train: ({ parameters }) => ({ parameters: parameters.map((value) => value + Math.random() - 0.5) }),
  onStep: (step) => console.log(JSON.stringify(step)),
});
await device.run();
