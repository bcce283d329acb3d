"""A learner around scikit-learn's SGDClassifier: tumours as benign or malignant, by 30 measurements each."""

import numpy as np
from sklearn.linear_model import SGDClassifier

from fedlog.data import breast_cancer, iid


class Learner:
    """What fedlog asks of a learner: four methods, and arrays by name. Any model with `partial_fit` goes this way."""

    def initialize(self, seed):
        """The model as it starts."""
        return {"coef": np.zeros((1, 30)), "intercept": np.zeros(1)}

    def load(self, part):
        """The share of device `part.index` of `part.count`, or what is held out for the evaluator."""
        x, y = breast_cancer().share(part, iid)
        return x.astype(np.float64), y

    def train(self, start, data, *, context):
        """The model after training from `start`, which is read-only, and metrics."""
        model = make_model(start, rate=context.policy.training.learning_rate, seed=context.seed)
        for _ in range(context.policy.training.epochs):
            model.partial_fit(*data)
        return {"coef": model.coef_, "intercept": model.intercept_}, {"accuracy": model.score(*data)}

    def evaluate(self, parameters, data):
        """The scores of a version."""
        return {"accuracy": make_model(parameters).score(*data)}


def make_model(arrays, rate=0.1, seed=0):
    """A classifier with these weights; both classes are named, because a device may have one alone."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=rate, random_state=seed)
    model.classes_ = np.arange(2)
    # Copies in the precision of the features: a version is read-only.
    model.coef_ = np.array(arrays["coef"], np.float64)
    model.intercept_ = np.array(arrays["intercept"], np.float64)
    return model
