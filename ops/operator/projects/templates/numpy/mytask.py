"""A learner in numpy alone: softmax regression on handwritten digits, with its own loop and scores."""

import numpy as np

from fedlog.data import digits, dirichlet


class Learner:
    """What fedlog asks of a learner: four methods, and arrays by name."""

    def initialize(self, seed):
        """The model as it starts."""
        return {"weight": np.zeros((64, 10)), "bias": np.zeros(10)}

    def load(self, part):
        """The share of device `part.index` of `part.count`, or what is held out for the evaluator."""
        return digits().share(part, dirichlet, alpha=0.3, size_min=5)

    def train(self, start, data, *, context):
        """The model after training from `start`, which is read-only, and metrics."""
        (x, y), weight, bias = data, start["weight"].copy(), start["bias"].copy()
        for _ in range(context.policy.training.steps):
            error = predict(weight, bias, x) - np.eye(10)[y]
            weight -= context.policy.training.learning_rate * x.T @ error / len(y)
            bias -= context.policy.training.learning_rate * error.mean(axis=0)
        return {"weight": weight, "bias": bias}, {}

    def evaluate(self, parameters, data):
        """The scores of a version."""
        chances = predict(parameters["weight"], parameters["bias"], data[0])
        return {"accuracy": (chances.argmax(axis=1) == data[1]).mean()}


def predict(weight, bias, x):
    """The chance of each class, shape (examples, classes)."""
    scores = np.exp(x @ weight + bias)
    return scores / scores.sum(axis=1, keepdims=True)
