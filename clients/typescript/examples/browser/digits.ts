// Softmax regression on handwritten digits: what a user of the package writes.

import type { Start, Trained } from "fedlog";

const INPUTS = 64;
const CLASSES = 10;

export interface Examples {
  // 64 grey values each, from 0 to 16.
  images: number[][];
  labels: number[];
}

// One epoch of stochastic gradient descent over this device's examples, at the policy's learning rate.
export function train({ images, labels }: Examples, start: Start): Trained {
  const parameters = start.parameters;
  const training = start.policy["training"] as { learning_rate: number; epochs: number };
  let loss = 0;
  for (let epoch = 0; epoch < training.epochs; epoch++) {
    loss = 0;
    for (const place of shuffle(images.length)) {
      const image = images[place]!;
      const label = labels[place]!;
      const shares = predict(parameters, image);
      loss -= Math.log(Math.max(shares[label]!, 1e-12)) / images.length;
      for (let digit = 0; digit < CLASSES; digit++) {
        const step = (training.learning_rate / 8) * (shares[digit]! - (digit === label ? 1 : 0));
        for (let pixel = 0; pixel < INPUTS; pixel++) parameters[digit * INPUTS + pixel]! -= step * (image[pixel]! / 16);
        parameters[CLASSES * INPUTS + digit]! -= step;
      }
    }
  }
  return { parameters, metrics: { loss, accuracy: score(parameters, { images, labels }) } };
}

// The share of examples whose digit is found.
export function score(parameters: Float32Array, { images, labels }: Examples): number {
  const right = images.filter((image, place) => {
    const shares = predict(parameters, image);
    return shares.indexOf(Math.max(...shares)) === labels[place];
  });
  return right.length / images.length;
}

// How likely each digit is. The parameters are ten rows of weights, then ten biases.
function predict(parameters: Float32Array, image: number[]): number[] {
  const logits = Array.from({ length: CLASSES }, (_, digit) => {
    let sum = parameters[CLASSES * INPUTS + digit]!;
    for (let pixel = 0; pixel < INPUTS; pixel++) sum += parameters[digit * INPUTS + pixel]! * (image[pixel]! / 16);
    return sum;
  });
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function shuffle(count: number): number[] {
  const order = Array.from({ length: count }, (_, place) => place);
  for (let place = count - 1; place > 0; place--) {
    const other = Math.floor(Math.random() * (place + 1));
    [order[place], order[other]] = [order[other]!, order[place]!];
  }
  return order;
}
