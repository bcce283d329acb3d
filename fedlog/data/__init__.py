"""Data for federated training without downloads: sets that a package brings along, split over devices by index.

A data callable is one line of it:

    from fedlog.data import digits, dirichlet

    def data(part):
        return digits().share(part, dirichlet, alpha=0.3)

A partitioner takes one label (or id) an example and the number of devices, and gives each device its indices. The same
seed gives the same split in every process.

- `by_size`: iid, size, linear, square, exponential. `by_label`: dirichlet, shard, pathological.
- `by_id`: natural_id, group_id.
- `dataset`: arrays with a held-out part, and a device's share of them. `checks`: the row and column of what is wrong.
- `bundled`: scikit-learn's sets. `extras`: those of optional packages, and the text of the standard library.
- `plots`: the labels of each device as text or as a figure.
"""

from __future__ import annotations

from fedlog.data.bundled import breast_cancer, diabetes, digits, iris, wine
from fedlog.data.by_id import group_id, natural_id
from fedlog.data.by_label import dirichlet, pathological, shard
from fedlog.data.by_size import exponential, iid, linear, size, square
from fedlog.data.checks import check_features
from fedlog.data.dataset import Dataset
from fedlog.data.extras import mnist_subset, standard_library, timeseries
from fedlog.data.plots import draw_labels, format_labels

__all__ = [
    "Dataset",
    "breast_cancer",
    "check_features",
    "diabetes",
    "digits",
    "dirichlet",
    "draw_labels",
    "exponential",
    "format_labels",
    "group_id",
    "iid",
    "iris",
    "linear",
    "mnist_subset",
    "natural_id",
    "pathological",
    "shard",
    "size",
    "square",
    "standard_library",
    "timeseries",
    "wine",
]
