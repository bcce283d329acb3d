"""A learner around scikit-learn's SGDClassifier; any model with `partial_fit` and `coef_` goes this way."""

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import f1_score, log_loss


class Linear:
    """A linear classifier of 8 x 8 digits, trained by `partial_fit`."""

    def __init__(self, features=64, classes=10, alpha=1e-4):
        self.shape, self.alpha = (classes, features), alpha

    def initialize(self, seed):
        """The model as it starts."""
        return {"coef": np.zeros(self.shape), "intercept": np.zeros(self.shape[0])}

    def load(self, part):
        """What the policy's `data` gives for this device, or for the evaluator."""
        x, y = part.read()
        return x.astype(np.float64), y

    def train(self, start, data, *, context):
        """`partial_fit` from the version's weights, and metrics."""
        x, y = data
        model = self.make_model(start, rate=context.policy.training.learning_rate, seed=context.seed)
        for _ in range(context.policy.training.epochs):
            model.partial_fit(x, y)
        return {"coef": model.coef_, "intercept": model.intercept_}, {"accuracy": model.score(x, y)}

    def evaluate(self, parameters, data):
        """The scores of a version on the held-out examples."""
        x, y = data
        model = self.make_model(parameters)
        chosen, chances = model.predict(x), model.predict_proba(x)
        return {
            "accuracy": (chosen == y).mean(),
            "f1": f1_score(y, chosen, average="macro"),
            "loss": log_loss(y, chances, labels=model.classes_),
        }

    def make_model(self, arrays, rate=0.1, seed=0):
        """A classifier with these weights."""
        model = SGDClassifier(
            loss="log_loss", alpha=self.alpha, learning_rate="constant", eta0=rate, random_state=seed % 2**32
        )
        # All classes at once: a device may have examples of a few alone. Copies, because a version is read-only.
        model.classes_ = np.arange(self.shape[0])
        model.coef_ = np.array(arrays["coef"], np.float64, order="C")
        model.intercept_ = np.array(arrays["intercept"], np.float64)
        return model
