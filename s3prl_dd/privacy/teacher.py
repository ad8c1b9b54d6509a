"""The attack on the heads in a generator file: were these utterances among those that its teacher learnt?

A head is surer of what it was trained on. How sure it is of an utterance's true class also depends on how hard the
utterance is, so that is taken out, as the offline attack of Carlini et al. (2022, "Membership inference attacks from
first principles") does by shadow models: here linear discriminants, each of a random half of all utterances, tell how
hard every utterance is to those who have not heard it. Train is told from dev, which has the same speakers.

Two controls hold the attack to account: `memorised`, which knows the label of every training utterance by heart, must
be caught; `held_out`, heads that heard neither side, must not be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from ..config import settings
from ..evaluation.significance import Interval
from . import intervals
from .attacks import attacker

REFERENCES = 16
"""Pairs of shadow models, one of each half of the utterances: every utterance is unknown to one of a pair."""

NEIGHBOURS = 15
"""Of the control that knows its training utterances by heart."""

FEWEST = 8
"""Utterances a class, on average, that shadow models need."""

SURE = 1e-6
"""Probabilities count between this and 1 - this."""

Opinion = Callable[[np.ndarray], np.ndarray]
"""Utterance means [N, D] -> probabilities of the classes by each of M heads [M, N, C]."""


@dataclass(frozen=True)
class Labelled:
    """Utterance means and class indices. Train made the teacher; dev has the same speakers and only chose its steps."""

    train: np.ndarray  # [N, D]
    train_labels: np.ndarray  # [N]
    dev: np.ndarray  # [N', D]
    dev_labels: np.ndarray  # [N']

    @property
    def points(self) -> np.ndarray:
        """Train, then dev: [N + N', D]."""
        return np.concatenate([self.train, self.dev])

    @property
    def labels(self) -> np.ndarray:
        """Of `points`, [N + N']."""
        return np.concatenate([self.train_labels, self.dev_labels])


@settings
class TeacherAttacked:
    """What the attack found on one teacher."""

    auc: Interval
    """Area under the ROC curve of train (yes) against dev (no), difficulty taken out; chance is 0.5."""
    auc_of_loss: Interval
    """The same by the loss alone."""
    found_at_1_percent_false: Interval
    """Share of train that is found where 1 % of dev are accused falsely; chance is 0.01."""
    caught: bool
    """Whether the attack succeeded: one of the two areas lies beyond chance."""
    caught_rounds: str | None = None
    """Of held_out: in how many rounds, as 1/5."""


def attack_teachers(data: Labelled, teachers: Mapping[str, Opinion], seed: int = 0) -> dict[str, TeacherAttacked]:
    """The attack on each teacher, on `memorised` and on `held_out`.

    returns: name -> what it found; nothing of fewer than FEWEST utterances a class
    """
    if len(data.points) < FEWEST * len(np.unique(data.labels)):
        return {}
    hardness = difficulty(data.points, data.labels, seed)
    by_heart = KNeighborsClassifier(min(NEIGHBOURS, len(data.train)), weights="distance")
    by_heart.fit(data.train, data.train_labels)
    heard: dict[str, Opinion] = {**teachers, "memorised": lambda points: by_heart.predict_proba(points)[None]}
    found = {}
    for name, opinion in heard.items():
        odds = log_odds(opinion(data.points), data.labels)
        found[name] = tell_apart(odds, hardness, len(data.train), seed)
    return {**found, "held_out": held_out(data, hardness, seed)}


def tell_apart(odds: np.ndarray, hardness: np.ndarray, members: int, seed: int = 0) -> TeacherAttacked:
    """Members are the first so many of the utterances. odds: the teacher's [N]; hardness: the shadow models' [N]"""
    design = np.stack([hardness, np.ones_like(hardness)], axis=1)  # [N, 2]
    surprise = odds - design @ np.linalg.lstsq(design, odds, rcond=None)[0]
    auc = intervals.auc(surprise[:members], surprise[members:], seed)
    plain = intervals.auc(odds[:members], odds[members:], seed)
    found = intervals.found(surprise[:members], surprise[members:], 0.01, seed)
    return TeacherAttacked(auc, plain, found, caught=max(auc.low, plain.low) > 0.5)


def log_odds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean over the heads of log p / (1 - p), p the true class's. probabilities: [M, N, C]; labels: [N] -> [N]"""
    sure = probabilities[:, np.arange(len(labels)), labels].clip(SURE, 1 - SURE)  # [M, N]
    return np.log(sure / (1 - sure)).mean(axis=0)


def difficulty(points: np.ndarray, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """How sure shadow models that have not heard an utterance are of its class, as log-odds [N]."""
    total, times = np.zeros(len(points)), np.zeros(len(points))
    for number in range(REFERENCES):
        order = np.random.default_rng([seed, 5, number]).permutation(len(points))
        for heard, unknown in zip(*_halves(order), strict=True):
            opinion = _opinion_of(points[heard], labels[heard], points[unknown], labels)
            total[unknown] += log_odds(opinion, labels[unknown])
            times[unknown] += 1
    return total / times


def _halves(order: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Each half is once heard and once unknown."""
    one, other = np.array_split(order, 2)
    return [one, other], [other, one]


def held_out(data: Labelled, hardness: np.ndarray, seed: int = 0, rounds: int = 5) -> TeacherAttacked:
    """Heads that heard neither side: all utterances dealt anew as train, dev and what the heads heard.

    hardness: [N + N'] of data.points
    returns: the first round's result; `caught` where more than half of the rounds were
    """
    points, labels, size = data.points, data.labels, len(data.dev)
    results = []
    for number in range(rounds):
        order = np.random.default_rng([seed, 6, number]).permutation(len(points))
        dev, train, heard = np.split(order, [size, (len(points) + size) // 2])
        sides = np.concatenate([train, dev])
        odds = log_odds(_opinion_of(points[heard], labels[heard], points[sides], labels), labels[sides])
        results.append(tell_apart(odds, hardness[sides], len(train), seed))
    caught = sum(result.caught for result in results)
    return replace(results[0], caught=caught > rounds / 2, caught_rounds=f"{caught}/{rounds}")


def _opinion_of(points: np.ndarray, labels: np.ndarray, hears: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Probabilities [1, N, C] of `hears` by a discriminant of points and labels; 0 of classes that these lack.

    known: labels of all classes
    """
    model = attacker(points, labels)
    made = np.zeros((1, len(hears), int(known.max()) + 1))
    made[0][:, model.classes_] = model.predict_proba(hears)
    return made
