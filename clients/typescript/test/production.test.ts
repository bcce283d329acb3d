// What is in production, by schemas/vectors/production.json: this client believes the same records, and chooses alike.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromHex, toHex } from "../src/bytes.js";
import { FedlogError } from "../src/errors.js";
import { choose, drawPlace, readProduction } from "../src/production.js";
import { Trust } from "../src/trust.js";

// From build/test, where this file runs.
const FILE = new URL("../../../../schemas/vectors/production.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(FILE, "utf8"));

test("what a rollout has signed is believed, and chosen from alike", async () => {
  assert(cases.length > 0);
  for (const vector of cases) {
    const trust = new Trust(fromHex(vector.operator), fromHex(vector.deployment));
    const reading = readProduction(JSON.parse(vector.told), trust, vector.task);
    if (vector.refused_because) {
      await assert.rejects(reading, FedlogError, vector.refused_because);
      continue;
    }
    const standing = await reading;
    assert.equal(standing.seq, vector.seq);
    for (const { device, cohort, version, place_of_7 } of vector.devices) {
      assert.equal(await drawPlace(vector.task, 7, device), place_of_7);
      const chosen = await choose(vector.task, device, cohort, standing);
      assert.equal(chosen?.version ?? null, version);
      if (chosen) assert.equal(toHex(chosen.model.sha256), vector.models[version]);
    }
  }
});

test("a record in which any one byte was changed is refused", async () => {
  const { operator, deployment, task, told } = cases[0];
  const [record] = JSON.parse(told).records as [string];
  const trust = new Trust(fromHex(operator), fromHex(deployment));
  for (let at = 0; at < record.length; at += 7) {
    const changed = record.slice(0, at) + String.fromCharCode(record.charCodeAt(at) ^ 1) + record.slice(at + 1);
    await assert.rejects(readProduction({ records: [changed] }, trust, task), `byte ${at}`);
  }
});

test("a signature that stands elsewhere changes nothing of what was signed", async () => {
  const { operator, deployment, task, told } = cases[0];
  const [record] = JSON.parse(told).records as [string];
  const [signature] = /,"signature":"[0-9a-f]{128}"/.exec(record)!;
  const moved = record.replace(signature, "").replace('"version":5', `"version":5${signature}`);
  const standing = await readProduction({ records: [moved] }, new Trust(fromHex(operator), fromHex(deployment)), task);
  assert.deepEqual(Object.keys(standing.promoted ?? {}), ["version", "model"]);
  assert.equal(standing.promoted?.version, 5);
});
