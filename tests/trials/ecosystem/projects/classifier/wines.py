"""scikit-learn's SGDClassifier as a learner of its own: which of three growers a wine is from."""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import SGDClassifier


class Wines:
    """The four methods of a learner."""

    def initialize(self, seed):
        """Zeros."""
        return {"coef": np.zeros((3, 13)), "intercept": np.zeros(3)}

    def load(self, part):
        """Every n-th wine, or those that are held out."""
        x, y = load_wine(return_X_y=True)
        x = (x - x.mean(0)) / x.std(0)
        order = np.random.default_rng(1).permutation(len(y))
        own = order[:40] if part.split == "test" else order[40:][part.index :: part.count]
        return x[own], y[own]

    def train(self, start, data, *, context):
        """One pass."""
        model = SGDClassifier(loss="log_loss", alpha=0.01, random_state=context.seed)
        model.classes_ = np.arange(3)
        model.coef_, model.intercept_ = start["coef"].astype(float), start["intercept"].astype(float)
        model.partial_fit(*data)
        return {"coef": model.coef_, "intercept": model.intercept_}, {"accuracy": model.score(*data)}

    def evaluate(self, parameters, data):
        """The share of right answers."""
        x, y = data
        scores = x @ parameters["coef"].T + parameters["intercept"]
        return {"accuracy": (scores.argmax(1) == y).mean()}
