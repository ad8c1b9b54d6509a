"""Attackers on generated features: what someone learns of a corpus who holds its generator file, and not the corpus.

    membership              which real utterances were in the training set, told by how near a sample comes
    nearest                 are samples nearer to training utterances than to others of the same speakers?
    speakers_from_real      an attacker knows the training speakers' real speech: does he hear them in the samples?
    speakers_from_samples   an attacker trains on samples alone: does he then know the speakers in real speech?

Each works on vectors, one an utterance or sample: the mean over time, or all T frames of it in a row (`vectors`).
`controls` makes "samples" for which the answers are known: copies of training utterances must be caught by every
attack; `held_out` real utterances must not pass for memorised. A Gaussian fitted to the training utterances stands
between: it holds their mean and covariance and no utterance. `noise` holds each dimension's mean and spread alone: what
speakers_from_samples names by it is what the attacker brings along. A result says `caught`: the interval (95 %) lies
beyond what chance gives. Not caught is no guarantee: these attackers, on this many utterances, did not find it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import euclidean_distances
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from ..config import settings
from ..errors import UserError
from ..evaluation.significance import Interval
from . import intervals
from .intervals import ROUNDS

MIN_DEV = 8
"""Dev utterances that an attack needs."""

COPY_NOISE = 0.05
"""What is added to copies of training utterances, in units of each dimension's spread."""

FEWEST_SPEAKERS = 3
"""Speakers that the attacks on speakers need: one is left out as a stranger, and two are told apart."""


class View(StrEnum):
    """What an attacker sees of an utterance or sample."""

    MEAN = "mean"
    """its mean over time, [D]"""
    FRAMES = "frames"
    """all T frames of it, one behind the other, [T * D]"""


@dataclass(frozen=True)
class Real:
    """Real utterances as vectors. Train made the generator; dev has the same speakers and did not."""

    train: np.ndarray  # [N, K]
    train_speakers: np.ndarray  # [N] names
    dev: np.ndarray  # [N', K]
    dev_speakers: np.ndarray  # [N'] names

    def __post_init__(self) -> None:
        check_sizes(len(self.train), len(self.dev))

    @property
    def everyone(self) -> np.ndarray:
        """Train, then dev: [N + N', K]."""
        return np.concatenate([self.train, self.dev])

    @property
    def all_speakers(self) -> np.ndarray:
        """Of `everyone`, [N + N']."""
        return np.concatenate([self.train_speakers, self.dev_speakers])


def check_sizes(train: int, dev: int) -> None:
    """Raise UserError for numbers of utterances on which these attacks say nothing."""
    if dev < MIN_DEV or train < dev:
        raise UserError(f"{train} training and {dev} dev utterances: these attacks need {MIN_DEV} of dev or more, "
                        "and no more of dev than of train.")


# results; `caught` says that the interval lies beyond chance


@settings
class Membership:
    """Of `membership`."""

    auc: Interval
    """Area under the ROC curve of train (yes) against dev (no); chance is 0.5."""
    found_at_5_percent_false: float
    """Share of train that is found where 5 % of dev are accused falsely."""
    caught: bool
    """Whether the attack succeeded."""
    caught_rounds: str | None = None
    """Of held_out: in how many rounds, as 1/5."""
    found_at_1_percent_false: Interval | None = None
    """The same where 1 % of dev are; None in files until 0.1."""


@settings
class Nearest:
    """Of `nearest`."""

    ratio: Interval
    """Mean distance to the nearest training utterance over that to the nearest dev utterance; chance is 1."""
    nearer_to_train: float
    """Share of samples that are nearer to a training utterance."""
    caught: bool
    """Whether the attack succeeded."""
    caught_rounds: str | None = None
    """Of held_out: in how many rounds, as 1/5."""


@settings
class Confidence:
    """Largest probability that the attacker on real speech gives to any speaker, mean."""

    samples: Interval
    """In samples."""
    known_speakers: Interval
    """In dev utterances of the speakers he learnt."""
    unknown_speakers: Interval
    """In real utterances of speakers whom he did not learn."""


@settings
class SpeakersFromReal:
    """Of `speakers_from_real`."""

    accuracy_on_dev: Interval
    """How often he names dev utterances rightly."""
    chance: float
    """One over the number of speakers."""
    confidence: Confidence
    """How sure he is."""
    more_than_unknown: Interval
    """AUC: how often a sample gets more confidence than a stranger."""
    floor: float
    """The same of samples that hold no utterance."""
    speakers_heard: float
    """Effective number of speakers among the samples: exp of the entropy of their mean probabilities."""
    caught: bool
    """Whether the attack succeeded."""


@settings
class SpeakersFromSamples:
    """Of `speakers_from_samples`."""

    accuracy: Interval
    """How often he names dev utterances rightly."""
    floor: float
    """The same where the samples hold no utterance."""
    accuracy_of_means: Interval
    """The same without any sample: by the nearest of the speakers' means."""
    chance: float
    """One over the number of speakers."""
    speakers_named: int
    """How many speakers had a sample named after them."""
    largest_share: float
    """Share of the samples that were named after the commonest of them."""
    caught: bool
    """Whether the attack succeeded."""


@settings
class Attacked:
    """What every attack found on one set of samples."""

    membership: Membership
    """Which utterances were in training?"""
    nearest: Nearest
    """Are samples nearer to them?"""
    speakers_from_real: SpeakersFromReal | None = None
    """Are the speakers heard? None where only memory was attacked."""
    speakers_from_samples: SpeakersFromSamples | None = None
    """Are they learnt? None where only memory was attacked."""


Memory = TypeVar("Memory", Membership, Nearest)


# vectors


def vectors(frames: Iterable[ArrayLike], view: View = View.MEAN) -> np.ndarray:
    """[N, T, D], or N of [T, D] with one T, -> float32 [N, D] (mean) or [N, T * D] (frames).

    The latter are divided by sqrt(T), so that a distance is the root mean square over the frames.
    """
    stacked = np.stack([np.asarray(item, dtype=np.float32) for item in frames])
    if view == View.MEAN:
        return stacked.mean(axis=1)
    return stacked.reshape(len(stacked), -1) / np.sqrt(stacked.shape[1])


def standardise(real: Real, samples: Mapping[str, np.ndarray]) -> tuple[Real, dict[str, np.ndarray]]:
    """Both in units of the training vectors' spread, dimension by dimension. samples: name -> [N, K]"""
    mean = real.train.mean(axis=0)
    spread = real.train.std(axis=0) + 1e-8
    scaled = replace(real, train=(real.train - mean) / spread, dev=(real.dev - mean) / spread)
    return scaled, {name: (values - mean) / spread for name, values in samples.items()}


def controls(real: Real, number: int, seed: int = 0, noise: float = COPY_NOISE) -> dict[str, np.ndarray]:
    """Name -> [number, K] "samples" whose answers are known. noise: added to copies, in units of the spread.

    On more dimensions than twice the training utterances there is no Gaussian: it would only span its training points.
    """
    draw = np.random.default_rng([seed, 0])
    made = {"copied": _copies(real.train, number, noise, draw)}
    if real.train.shape[1] < 2 * len(real.train):
        fitted = LedoitWolf().fit(real.train)
        gaussian = draw.multivariate_normal(fitted.location_, fitted.covariance_, number, method="cholesky")
        few = max(1, number // 10)
        made["gaussian"] = gaussian
        made["one_in_ten_copied"] = np.concatenate([_copies(real.train, few, noise, draw), gaussian[few:]])
    white = np.random.default_rng([seed, 7]).standard_normal((number, real.train.shape[1]))
    return {**made, "noise": real.train.mean(axis=0) + real.train.std(axis=0) * white}


def _copies(of: np.ndarray, number: int, noise: float, draw: np.random.Generator) -> np.ndarray:
    chosen = of[draw.integers(len(of), size=number)]
    return noisy(chosen, of, noise, draw)


def noisy(chosen: np.ndarray, of: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    """Vectors [number, K] with Gaussian noise in units of each dimension's spread in `of` [N, K]."""
    return chosen + noise * of.std(axis=0) * draw.standard_normal(chosen.shape)


class Distances(NamedTuple):
    """Of samples from real utterances."""

    to_train: np.ndarray  # [N, N train]
    to_dev: np.ndarray  # [N, N dev]

    @classmethod
    def of(cls, samples: np.ndarray, real: Real) -> "Distances":
        """samples: [N, K]"""
        return cls(_distances(samples, real.train), _distances(samples, real.dev))


def _distances(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N, M] Euclidean distances of [N, K] and [M, K], in double precision: as a matrix product, for K is large."""
    return euclidean_distances(vectors.astype(np.float64), others.astype(np.float64))


# all attacks


@threadpool_limits.wrap(limits=1, user_api="blas")  # several of OpenBLAS' spin: ten times as slow beside other work
def attack(real: Real, samples: Mapping[str, np.ndarray], number: int, seed: int = 0,
           speakers: bool = True) -> dict[str, Attacked]:
    """Every attack on each of `samples` (name -> [N, K]), on the controls, and on held-out real utterances.

    number: of samples of a control; speakers: the two attacks on speakers too, where `can_be_learnt`
    returns: name -> results
    """
    made = controls(real, number, seed)
    listener = Listener.of(real) if speakers and can_be_learnt(real.train_speakers) else None
    heard_floor, named_floor = 0.5, None
    if listener:
        nobody = made.get("gaussian", made["noise"])  # of few utterances in many dimensions there is no Gaussian
        heard_floor = speakers_from_real(listener, nobody, seed).more_than_unknown.value
        named_floor = speakers_from_samples(real, nobody, seed).accuracy.value
    results = {}
    for name, values in {**samples, **made}.items():
        distances = Distances.of(values, real)
        results[name] = Attacked(
            membership(distances, seed), nearest(distances, seed),
            speakers_from_real(listener, values, seed, heard_floor) if listener else None,
            speakers_from_samples(real, values, seed, named_floor) if listener else None)
    results["held_out"] = held_out(real, seed)
    return results


def blind(results: Mapping[str, Attacked]) -> list[str]:
    """Names of the attacks that did not catch the copies, of what `attack` returned."""
    by_name = vars(results["copied"])
    return [name for name, result in by_name.items() if result is not None and not result.caught]


# speakers


def can_be_learnt(speakers: np.ndarray) -> bool:
    """Whether an attacker can learn the speakers of N utterances: of one utterance each no spread is known."""
    names, counts = np.unique(speakers, return_counts=True)
    return len(names) >= FEWEST_SPEAKERS and bool(counts.max() > 1)


def attacker(values: np.ndarray, names: np.ndarray) -> LinearDiscriminantAnalysis:
    """Linear discriminant analysis with a shrunk covariance, the classic of speaker recognition; nothing to tune."""
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values, names)


class Listener(NamedTuple):
    """An attacker who learnt the training speakers from real speech; he is the same for all samples."""

    knows: LinearDiscriminantAnalysis
    """S speakers."""

    of_dev: np.ndarray
    """[N', S] what he says of dev utterances: probabilities."""

    dev_speakers: np.ndarray
    """[N'] whose they are."""

    strangers: np.ndarray
    """[N + N'] how sure such attackers are of real utterances of speakers whom they did not learn."""

    @classmethod
    def of(cls, real: Real) -> "Listener":
        """Of the training utterances."""
        knows = attacker(real.train, real.train_speakers)
        strangers = _confidence_in_strangers(real, folds=min(5, len(knows.classes_)))
        return cls(knows, knows.predict_proba(real.dev), real.dev_speakers, strangers)


def speakers_from_real(listener: Listener, samples: np.ndarray, seed: int = 0, floor: float = 0.5
                       ) -> SpeakersFromReal:
    """The attacker who learnt the training speakers from real speech hears the samples [N, K].

    His confidence (largest probability) is compared with that in dev utterances of speakers he knows, and in real
    utterances of speakers he does not know. `floor`: how often samples that hold no utterance (the Gaussian control;
    `noise` where it cannot be fitted) get more confidence than a stranger.
    """
    knows, of_dev, dev_speakers, strangers = listener
    of_samples = knows.predict_proba(samples)  # [N, S]
    sure = of_samples.max(axis=1)
    share = of_samples.mean(axis=0)  # [S]
    entropy = -(share * np.log(share + 1e-12)).sum()
    more = intervals.auc(sure, strangers, seed)
    return SpeakersFromReal(
        accuracy_on_dev=intervals.wilson_of(knows.classes_[of_dev.argmax(axis=1)] == dev_speakers),
        chance=1 / len(knows.classes_),
        confidence=Confidence(samples=intervals.mean(sure, seed),
                              known_speakers=intervals.mean(of_dev.max(axis=1), seed),
                              unknown_speakers=intervals.mean(strangers, seed)),
        more_than_unknown=more, floor=floor, speakers_heard=float(np.exp(entropy)), caught=more.low > max(floor, 0.5))


def _confidence_in_strangers(real: Real, folds: int) -> np.ndarray:
    """At most [N + N']: attackers on all but one of `folds` groups of speakers hear that group.

    Where none of the others has two utterances, there is nothing to learn.
    """
    everyone, speakers = real.everyone, real.all_speakers
    confidence = []
    for kept, left in GroupKFold(folds).split(everyone, groups=speakers):
        if len(kept) == len(np.unique(speakers[kept])):
            continue
        heard = attacker(everyone[kept], speakers[kept]).predict_proba(everyone[left])
        confidence.append(heard.max(axis=1))
    return np.concatenate(confidence)


def speakers_from_samples(real: Real, samples: np.ndarray, seed: int = 0,
                          floor: float | None = None) -> SpeakersFromSamples:
    """An attacker trains on samples [N, K], each named after the nearest training speaker, and hears real dev speech.

    The names come from real speech (he has the speakers' mean vectors), so much of his accuracy is theirs: `floor` is
    what he reaches on samples that hold no utterance (the Gaussian control; `noise` where it cannot be fitted); None
    takes chance.
    """
    names = np.unique(real.train_speakers)
    centres = np.stack([real.train[real.train_speakers == name].mean(axis=0) for name in names])  # [S, K]
    named = named_after(samples, names, centres)  # [N]
    chosen, counts = np.unique(named, return_counts=True)
    guessed = guessed_from(samples, named, real.dev)
    by_means = named_after(real.dev, names, centres)
    accuracy = intervals.wilson_of(guessed == real.dev_speakers)
    chance = 1 / len(names)
    floor = chance if floor is None else floor
    return SpeakersFromSamples(
        accuracy=accuracy, floor=floor, accuracy_of_means=intervals.wilson_of(by_means == real.dev_speakers),
        chance=chance, speakers_named=len(chosen), largest_share=float(counts.max() / len(named)),
        caught=accuracy.low > floor)


def named_after(values: np.ndarray, names: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The names [N] of the speakers whose centres [S, K] are nearest to vectors [N, K]; names: of the centres [S]"""
    return names[_distances(values, centres).argmin(axis=1)]


def guessed_from(samples: np.ndarray, named: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """The names [N'] that an attacker gives vectors [N', K] who trained on samples [N, K] of these names [N].

    Where fewer than two names have samples enough, all are given the commonest.
    """
    chosen, counts = np.unique(named, return_counts=True)
    heard = chosen[counts > 1]  # of a single sample no spread is known
    if len(heard) < 2:
        return np.repeat(chosen[counts.argmax()], len(unknown))
    usable = np.isin(named, heard)
    return attacker(samples[usable], named[usable]).predict(unknown)


# memorised utterances


def membership(distances: Distances, seed: int = 0) -> Membership:
    """Was this utterance in the training set? The nearer a sample, the more so."""
    in_train = -distances.to_train.min(axis=0)  # [N train] nearness of the nearest sample
    in_dev = -distances.to_dev.min(axis=0)
    auc = intervals.auc(in_train, in_dev, seed)
    found = in_train > np.quantile(in_dev, 0.95)
    return Membership(auc, found_at_5_percent_false=float(found.mean()), caught=auc.low > 0.5,
                      found_at_1_percent_false=intervals.found(in_train, in_dev, 0.01, seed))


def nearest(distances: Distances, seed: int = 0) -> Nearest:
    """Mean distance of samples to the nearest training utterance over that to the nearest dev utterance.

    Train is cut to the size of dev, again and again, for of two sets the larger is nearer by chance. The interval is
    that of the utterances, by the delete-half jackknife of the logarithm (a bootstrap's repeated utterances would thin
    both sets out and move the ratio).
    """
    draw = np.random.default_rng([seed, 1])
    to_train, to_dev = (np.ascontiguousarray(values.T) for values in distances)  # [N train, N], [N dev, N]
    trains, size = len(to_train), len(to_dev)
    near_dev = to_dev.min(axis=0)
    logs, nearer, halves = [], [], []
    for _ in range(ROUNDS):
        near_train = to_train[draw.choice(trains, size, replace=False)].min(axis=0)
        logs.append(np.log(near_train.mean() / near_dev.mean()))
        nearer.append((near_train < near_dev).mean())
        half_of_train = draw.choice(trains, size // 2, replace=False)
        half_of_dev = draw.choice(size, size // 2, replace=False)
        halves.append(np.log(to_train[half_of_train].min(axis=0).mean() / to_dev[half_of_dev].min(axis=0).mean()))
    middle, spread = np.mean(logs), np.std(halves)
    ratio = Interval(*(float(np.exp(middle + side * spread)) for side in (0, -1.96, 1.96)))
    return Nearest(ratio, nearer_to_train=float(np.mean(nearer)), caught=ratio.high < 1)


def held_out(real: Real, seed: int = 0, rounds: int = 5) -> Attacked:
    """Memory where nothing was memorised: all utterances dealt anew as train, dev and "samples"."""
    everyone, speakers, size = real.everyone, real.all_speakers, len(real.dev)
    found = []
    for number in range(rounds):
        order = np.random.default_rng([seed, 2, number]).permutation(len(everyone))
        dev, samples, train = np.split(order, [size, 2 * size])
        dealt = Real(everyone[train], speakers[train], everyone[dev], speakers[dev])
        distances = Distances.of(everyone[samples], dealt)
        found.append((membership(distances, seed), nearest(distances, seed)))
    of_members, of_nearest = zip(*found, strict=True)
    return Attacked(_over_rounds(of_members), _over_rounds(of_nearest))


def _over_rounds(results: Sequence[Memory]) -> Memory:
    """The first round's result; `caught` where more than half of the rounds were."""
    caught = sum(result.caught for result in results)
    return replace(results[0], caught=caught > len(results) / 2, caught_rounds=f"{caught}/{len(results)}")
