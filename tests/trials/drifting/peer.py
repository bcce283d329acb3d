"""What Evidently and scipy say of pairs of histograms: JSON in, JSON out, in an environment that has nothing of ours.

Each pair is two lists of counts, which become samples of the numbers of their bins.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import ks_stat_test, psi_stat_test
from scipy import stats


def main() -> None:
    """One answer a pair, in their order."""
    warnings.simplefilter("ignore")
    answers = []
    for pair in json.load(sys.stdin):
        one, other = (pd.Series(np.repeat(np.arange(len(counts)), counts)) for counts in pair)
        told = stats.ks_2samp(one, other)
        answers.append(
            {
                "psi": float(psi_stat_test(one, other, feature_type="cat", threshold=0.1).drift_score),
                "ks_p": float(ks_stat_test(one, other, feature_type="num", threshold=0.05).drift_score),
                "scipy_ks": float(told.statistic),
                "scipy_p": float(told.pvalue),
            }
        )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
