"""A learner around a Keras model, on TensorFlow, JAX or torch: BatchNorm's statistics are averaged, the rest trains."""

import keras
import numpy as np

from client_agent.learning.learner import Parameter


class Digits:
    """A small convolutional network; `fit` trains it."""

    def __init__(self, width=8):
        keras.utils.set_random_seed(0)
        self.model = keras.Sequential(
            [
                keras.layers.Input((64,)),
                keras.layers.Reshape((8, 8, 1)),
                keras.layers.Conv2D(width, 3, padding="same", use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.SGD(), loss=crossentropy, metrics=["accuracy"])

    def initialize(self, seed):
        """The weights by their paths; what Keras does not train is averaged."""
        return {
            weight.path: Parameter(np.array(weight), "trained" if weight.trainable else "averaged")
            for weight in self.model.weights
        }

    def load(self, part):
        """What the policy's `data` gives for this device, or for the evaluator."""
        return part.read()

    def train(self, start, data, *, context):
        """Keras's own loop, from the version's weights."""
        self.fill(start)
        keras.utils.set_random_seed(context.seed % 2**32)
        training = context.policy.training
        self.model.optimizer.learning_rate = training.learning_rate
        told = self.model.fit(*data, batch_size=training.batch_size, epochs=training.epochs, verbose=0)
        return {weight.path: np.array(weight) for weight in self.model.weights}, {"loss": told.history["loss"][-1]}

    def evaluate(self, parameters, data):
        """The scores of a version on the held-out examples."""
        self.fill(parameters)
        return self.model.evaluate(*data, verbose=0, return_dict=True)

    def fill(self, arrays):
        """Set every weight."""
        self.model.set_weights([arrays[weight.path] for weight in self.model.weights])
