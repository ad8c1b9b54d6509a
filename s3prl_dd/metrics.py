"""Metrics of speech emotion recognition."""

import warnings

from numpy.typing import ArrayLike
from sklearn.metrics import balanced_accuracy_score

BEST_PREDICTIONS = "test_at_dev_best.json"
"""In an expdir: truth and prediction (class indices) of each test utterance, in the list's order, at the step of
dev-best.ckpt."""


def uar(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted average recall in [0, 1] over the classes present in `truth`. Both: [N] class indices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a predicted class that truth lacks is no error
        return float(balanced_accuracy_score(truth, predicted))
