"""Data sets in folders that have the names of those that the examples download; run by Flower's environment.

    python offline_data.py FOLDER

The library that loads them takes a folder of that name before it asks anybody. Digits stand for pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Features, Image, disable_progress_bars
from PIL import Image as Pictures
from sklearn.datasets import load_digits, load_iris

TRAIN, TEST = slice(0, 900), slice(900, 1200)


def main() -> None:
    """Write every data set below the folder."""
    disable_progress_bars()
    folder = Path(sys.argv[1])
    write(folder / "uoft-cs" / "cifar10", **make_pictures("img", size=32, mode="RGB"))
    write(folder / "zalando-datasets" / "fashion_mnist", **make_pictures("image", size=28, mode="L"))
    write(folder / "hitorilabs" / "iris", train=make_flowers())
    names = ["SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm", "Species"]
    write(folder / "scikit-learn" / "iris", train=Dataset.from_pandas(load_flowers().set_axis(names, axis=1)))
    write(folder / "scikit-learn" / "adult-census-income", train=make_people(2000))


def write(folder: Path, **splits: Dataset) -> None:
    """One file for each split."""
    folder.mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(str(folder / f"{name}.parquet"))


def make_pictures(column: str, *, size: int, mode: str) -> dict[str, Dataset]:
    """Handwritten digits as pictures of this size."""
    digits, labels = load_digits(return_X_y=True)
    pictures = [
        Pictures.fromarray((digit.reshape(8, 8) * 15.9).astype(np.uint8)).resize((size, size)).convert(mode)
        for digit in digits
    ]
    features = Features({column: Image(), "label": ClassLabel(num_classes=10)})
    return {
        name: Dataset.from_dict({column: pictures[part], "label": labels[part].tolist()}, features=features)
        for name, part in (("train", TRAIN), ("test", TEST))
    }


def make_flowers() -> Dataset:
    """The iris data as one app names its columns."""
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"]
    return Dataset.from_pandas(load_flowers().set_axis(names, axis=1))


def load_flowers() -> pd.DataFrame:
    """The iris data, in an order that has all species everywhere."""
    return load_iris(as_frame=True).frame.sample(frac=1, random_state=0).reset_index(drop=True)


def make_people(count: int) -> Dataset:
    """People whose income follows from age and education, with the columns of the census."""
    draw = np.random.default_rng(0)
    numbers = {"age": (17, 90), "fnlwgt": (1, 10**6), "education.num": (1, 16), "capital.gain": (0, 10**4)}
    numbers |= {"capital.loss": (0, 10**3), "hours.per.week": (1, 80)}
    words = ("workclass", "education", "marital.status", "occupation", "relationship", "race", "sex", "native.country")
    columns = {name: draw.integers(*bounds, count) for name, bounds in numbers.items()}
    columns |= {name: draw.choice(list("abcd"), count) for name in words}
    frame = pd.DataFrame(columns)
    earned = frame["education.num"] * 4 + frame["age"] + draw.normal(0, 5, count)
    frame["income"] = np.where(earned > 85, ">50K", "<=50K")
    return Dataset.from_pandas(frame)


if __name__ == "__main__":
    main()
