"""Whether two training sets differ, on the same test utterances: McNemar's test and a paired bootstrap over speakers."""

import numpy as np
from scipy import stats


def mcnemar(truth, first, second):
    """Two-sided p of McNemar's test that two classifiers are right equally often, [0, 1]. All: [N] class indices.

    Exact binomial under 25 discordant pairs, else chi-square with continuity correction (the paper's Sec. 5.1 names the
    test alone; this is its first author's later form).
    """
    truth, first, second = map(np.asarray, (truth, first, second))
    alone = int(((first == truth) & (second != truth)).sum())
    other = int(((first != truth) & (second == truth)).sum())
    if alone + other < 25:
        return float(stats.binomtest(alone, alone + other).pvalue) if alone + other else 1.0
    return float(stats.chi2.sf((abs(alone - other) - 1) ** 2 / (alone + other), df=1))


def uar_difference(folds, draws=2000, seed=0):
    """[difference, low, high] of two UARs, each a mean over heads and folds: the 95 % interval of a paired bootstrap.

    Test speakers are drawn anew within each fold, with all their utterances and on both sides alike; utterances of one
    speaker hang together, so an interval over utterances would be too narrow.
    folds: list of (truth [N], speakers [N], first [S, N], second [S', N]) of class indices, one row a head
    """
    chance = np.random.default_rng(seed)
    found = []
    for truth, speakers, first, second in folds:
        truth, (names, speaker) = np.asarray(truth), np.unique(speakers, return_inverse=True)
        weights = np.concatenate([np.ones((1, len(names))), chance.multinomial(len(names), [1 / len(names)] * len(names), draws)])
        of_class = (truth == np.unique(truth)[:, None]).astype(float)  # [C, N]
        of_speaker = (speaker == np.arange(len(names))[:, None]).astype(float)  # [G, N]
        total = weights @ of_speaker @ of_class.T  # [1 + draws, C]; the first row is the corpus itself
        uars = []
        for side in (first, second):
            right = (np.asarray(side) == truth).mean(axis=0)  # [N], share of heads
            with np.errstate(invalid="ignore"):
                recalls = weights @ (of_speaker * right) @ of_class.T / total
            uars.append(np.nanmean(recalls, axis=1))  # a draw may lack a class
        found.append(uars[0] - uars[1])
    difference = np.mean(found, axis=0)  # [1 + draws]
    return [float(difference[0]), *map(float, np.percentile(difference[1:], [2.5, 97.5]))]
