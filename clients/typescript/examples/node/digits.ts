// One device in Node that trains softmax regression on digits until its task is closed:
// node digits.js '{"gateway": "http://…", "operator": "HEX", "task": "digits", "device": 3, "devices": 10, "examples": "digits.json"}'

import { readFileSync } from "node:fs";

import { Device, Gateway, MemoryStore, fromHex } from "../../src/index.js";
import { train, type Examples } from "../browser/digits.js";

const asked = JSON.parse(process.argv[2]!);
const { images, labels } = JSON.parse(readFileSync(asked.examples, "utf8")) as Examples;
const own = labels.map((_, at) => at).filter((at) => at % asked.devices === asked.device);
const examples = { images: own.map((at) => images[at]!), labels: own.map((at) => labels[at]!) };

const device = await Device.open({
  gateway: new Gateway(asked.gateway, fromHex(asked.operator)),
  task: asked.task,
  store: new MemoryStore(),
  samples: examples.labels.length,
  train: (start) => train(examples, start),
  onStep: (step) => console.log(JSON.stringify({ device: device?.id, ...step })),
});
await device.run();
