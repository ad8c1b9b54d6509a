"""Metrics of speech emotion recognition."""

import warnings

from sklearn.metrics import balanced_accuracy_score

BEST_PREDICTIONS = "test_at_dev_best.json"
"""In an expdir: truth and prediction (class indices) of each test utterance, in the list's order, at dev-best.ckpt's step."""


def uar(truth, predicted):
    """Unweighted average recall in [0, 1] over the classes present in `truth`. Both: [N] class indices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a predicted class that truth lacks is no error
        return float(balanced_accuracy_score(truth, predicted))
