"""A learner in JAX: a small network on handwritten digits, its gradients compiled once a process."""

import jax
import jax.numpy as jnp
import numpy as np


class Network:
    """Two dense layers; `jax.grad` of the loss is all that trains it."""

    def __init__(self, features=64, hidden=32, classes=10):
        self.sizes = (features, hidden, classes)

    def initialize(self, seed):
        """The model as it starts, as numpy arrays by name."""
        features, hidden, classes = self.sizes
        first, second = jax.random.split(jax.random.key(seed))
        return {
            "hidden.weight": np.asarray(jax.random.normal(first, (features, hidden)) / features**0.5),
            "hidden.bias": np.zeros(hidden, np.float32),
            "out.weight": np.asarray(jax.random.normal(second, (hidden, classes)) / hidden**0.5),
            "out.bias": np.zeros(classes, np.float32),
        }

    def load(self, part):
        """What the policy's `data` gives for this device, or for the evaluator."""
        return part.read()

    def train(self, start, data, *, context):
        """SGD over shuffled batches of one size, so that JAX compiles one step; the rest of a device's data waits."""
        (x, y), training = data, context.policy.training
        size, draw = min(training.batch_size, len(y)), np.random.default_rng(context.seed)
        model = {name: jnp.asarray(array) for name, array in start.items()}
        for _ in range(training.epochs):
            for places in draw.permutation(len(y))[: len(y) // size * size].reshape(-1, size):
                model = step(model, x[places], y[places], training.learning_rate)
        return {name: np.asarray(array) for name, array in model.items()}, {"loss": float(loss(model, x, y))}

    def evaluate(self, parameters, data):
        """The scores of a version on the held-out examples."""
        x, y = data
        return {"accuracy": float((scores(parameters, x).argmax(axis=1) == y).mean()), "loss": loss(parameters, x, y)}


def scores(model, x):
    return jnp.tanh(x @ model["hidden.weight"] + model["hidden.bias"]) @ model["out.weight"] + model["out.bias"]


def loss(model, x, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores(model, x)), y[:, None], axis=1).mean()


@jax.jit
def step(model, x, y, rate):
    return jax.tree.map(lambda array, slope: array - rate * slope, model, jax.grad(loss)(model, x, y))
