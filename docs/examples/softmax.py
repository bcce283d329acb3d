"""A learner in numpy alone: softmax regression on handwritten digits, with its own loop, loss and scores."""

import numpy as np


class Softmax:
    """A policy names it as `softmax:Softmax`, and `learner_arguments` are what it is called with."""

    def __init__(self, features=64, classes=10):
        self.features, self.classes = features, classes

    def initialize(self, seed):
        """The model as it starts, by name; the names and shapes stand in the log."""
        return {"weight": np.zeros((self.features, self.classes)), "bias": np.zeros(self.classes)}

    def load(self, part):
        """What the policy's `data` gives for this device, or for the evaluator: features and labels."""
        return part.read()

    def train(self, start, data, *, context):
        """The model after this device's training, and metrics, which stay here unless the policy asks for them."""
        (x, y), training = data, context.policy.training
        weight, bias = start["weight"].copy(), start["bias"].copy()
        # The same lease has the same seed, so that a device that died trains again to the same bits.
        draw = np.random.default_rng(context.seed)
        for _ in range(training.epochs):
            for batch in np.array_split(draw.permutation(len(y)), -(-len(y) // training.batch_size)):
                error = predict(weight, bias, x[batch]) - np.eye(self.classes)[y[batch]]
                weight -= training.learning_rate * x[batch].T @ error / len(batch)
                bias -= training.learning_rate * error.mean(axis=0)
        return {"weight": weight, "bias": bias}, self.evaluate({"weight": weight, "bias": bias}, data)

    def evaluate(self, parameters, data):
        """The scores of a version on the held-out examples."""
        x, y = data
        chances = predict(parameters["weight"], parameters["bias"], x)
        loss = -np.log(chances[np.arange(len(y)), y] + 1e-12).mean()
        return {"accuracy": (chances.argmax(axis=1) == y).mean(), "loss": loss}


def predict(weight, bias, x):
    """The chance of each class, shape (examples, classes)."""
    scores = x @ weight + bias
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)
