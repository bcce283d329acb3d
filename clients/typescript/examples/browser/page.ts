// The page: one device whose examples, key and unsent update live in this browser.
//
// index.html?gateway=https://…&operator=HEX&task=digits&device=3&devices=40

import { BrowserStore, Device, Gateway, fromHex, loadZstd, type Start, type Step } from "fedlog";

import { score, train, type Examples } from "./digits.js";

const SIDE = 8;
// So many pictures in a row that a digit can be read on a phone too.
const IS_NARROW = matchMedia("(max-width: 40rem)").matches;
const [EXAMPLES_A_ROW, WEIGHTS_A_ROW] = IS_NARROW ? [12, 5] : [24, 10];
const EXAMPLES_SHOWN = 72;
const ID_DIGITS = 12;
// The reasons that a person meets most; any other is told as the selector says it.
const REASONS: { [reason: string]: string } = {
  closed: "the task is closed",
  in_round: "its update is in this round already",
  no_slot: "enough others are at work",
  no_model: "there is no model yet",
  paused: "the task is paused",
};
const asked = new URLSearchParams(location.search);
let admitted = 0;

async function main(): Promise<void> {
  const [place, count] = [Number(asked.get("device") ?? 0), Number(asked.get("devices") ?? 10)];
  const examples = await loadExamples(place, count);
  show("task", asked.get("task")!);
  show("samples", String(examples.labels.length));
  drawExamples(examples);
  await loadZstd(new URL("zstd.wasm", location.href).href);
  const device = await Device.open({
    gateway: new Gateway(asked.get("gateway")!, fromHex(asked.get("operator")!)),
    task: asked.get("task")!,
    // A store a device, so that one browser can be several of them.
    store: await BrowserStore.open(`fedlog-${asked.get("task")}-${place}`),
    samples: examples.labels.length,
    train: (start: Start) => {
      show("accuracy", `${(100 * score(start.parameters, examples)).toFixed(0)} %`);
      drawWeights(start.parameters);
      return train(examples, start);
    },
    onStep: tell,
  });
  show("device", `${device.id.slice(0, ID_DIGITS)}…`);
  show("status", "Asking for work");
  await device.run();
  show("status", "The task is over. Thank you.");
}

async function loadExamples(place: number, count: number): Promise<Examples> {
  const { images, labels } = (await (await fetch("digits.json")).json()) as Examples;
  const own = labels.map((_, at) => at).filter((at) => at % count === place);
  return { images: own.map((at) => images[at]!), labels: own.map((at) => labels[at]!) };
}

function tell(step: Step): void {
  if (step.step === "settled" && step.outcome === "admitted") show("admitted", String(++admitted));
  const said = describe(step);
  show("status", said);
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  line.append(time, said);
  document.getElementById("steps")!.prepend(line);
}

function describe(step: Step): string {
  switch (step.step) {
    case "declined":
      return `Not needed now: ${REASONS[step.reason] ?? step.reason}`;
    case "granted":
      return `A lease: train from version ${step.version}`;
    case "trained":
      return `Trained from version ${step.version}, clipped, signed, kept`;
    case "settled":
      return step.outcome === "admitted" ? `In the buffer, from version ${step.version}` : `Refused: ${step.outcome}`;
    case "given_up":
      return `Gave the lease up: ${step.reason}`;
    case "unavailable":
      return `Cannot reach the gateway; going on by itself (${step.reason})`;
  }
}

function drawExamples({ images }: Examples): void {
  draw("examples", images.slice(0, EXAMPLES_SHOWN), EXAMPLES_A_ROW, (value) => [28, 32, 36, (255 * value) / 16]);
}

function drawWeights(parameters: Float32Array): void {
  const rows = Array.from({ length: 10 }, (_, digit) => Array.from(parameters.subarray(64 * digit, 64 * (digit + 1))));
  const largest = Math.max(1e-6, ...rows.flat().map(Math.abs));
  draw("weights", rows, WEIGHTS_A_ROW, (value) => [value < 0 ? 196 : 11, value < 0 ? 61 : 110, value < 0 ? 52 : 95, (255 * Math.abs(value)) / largest]);
}

type Colour = (value: number) => [red: number, green: number, blue: number, opacity: number];

function draw(name: string, pictures: number[][], perRow: number, colour: Colour): void {
  const canvas = document.getElementById(name) as HTMLCanvasElement;
  const pitch = SIDE + 1;
  canvas.width = perRow * pitch - 1;
  canvas.height = Math.ceil(pictures.length / perRow) * pitch - 1;
  const context = canvas.getContext("2d")!;
  // Paper, in either scheme: ink is dark on it.
  pictures.forEach((picture, at) => {
    const [left, top] = [(at % perRow) * pitch, Math.floor(at / perRow) * pitch];
    context.fillStyle = "#f3f2ee";
    context.fillRect(left, top, SIDE, SIDE);
    picture.forEach((value, pixel) => {
      const [red, green, blue, opacity] = colour(value);
      context.fillStyle = `rgb(${red} ${green} ${blue} / ${opacity / 255})`;
      context.fillRect(left + (pixel % SIDE), top + Math.floor(pixel / SIDE), 1, 1);
    });
  });
}

function show(name: string, text: string): void {
  document.getElementById(name)!.textContent = text;
}

main().catch((error) => show("status", `Stopped: ${error}`));
