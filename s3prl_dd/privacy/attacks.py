"""Attackers on generated features: what someone learns of a corpus who holds its generator file, and not the corpus.

    speakers_from_real      an attacker knows the training speakers' real speech: does he hear them in the samples?
    speakers_from_samples   an attacker trains on samples alone: does he then know the speakers in real speech?
    membership              which real utterances were in the training set, told by how near a sample comes
    nearest                 are samples nearer to training utterances than to others of the same speakers?

Each works on vectors, one an utterance or sample: the mean over time, or all T frames of it in a row (`vectors`).
`controls` makes "samples" for which the answers are known: copies of training utterances must be caught by every
attack; `held_out` real utterances must not pass for memorised. A Gaussian fitted to the training utterances stands
between: it holds their mean and covariance and no utterance. A result says `caught`: the interval (95 %) lies beyond
what chance gives. Not caught is no guarantee: these attackers, on this many utterances, did not find it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from ..errors import UserError

ROUNDS = 500  # of every resampling
VIEWS = ("mean", "frames")


@dataclass
class Real:
    """Real utterances as vectors [N, K], and who speaks [N]. Train made the generator; dev has the same speakers and did not."""

    train: np.ndarray
    train_speakers: np.ndarray
    dev: np.ndarray
    dev_speakers: np.ndarray

    def __post_init__(self):
        if len(self.dev) < 8 or len(self.train) < len(self.dev):
            raise UserError(f"{len(self.train)} training and {len(self.dev)} dev utterances: these attacks need 8 of dev or more, "
                            "and no more of dev than of train.")


def vectors(frames, view="mean"):
    """[N, T, D], or a list of N [T_i, D] with one T, -> [N, D] ("mean" over time) or [N, T * D] ("frames", one behind the other)."""
    if view not in VIEWS:
        raise UserError(f"view {view!r}: expected one of {', '.join(VIEWS)}.")
    frames = np.stack([np.asarray(item, dtype=np.float32) for item in frames])
    return frames.mean(axis=1) if view == "mean" else frames.reshape(len(frames), -1) / np.sqrt(frames.shape[1])


def standardise(real, *others):
    """(Real, others) in units of the training vectors' spread, dimension by dimension."""
    mean, std = real.train.mean(axis=0), real.train.std(axis=0) + 1e-8
    scaled = [(values - mean) / std for values in (real.train, real.dev, *others)]
    return Real(scaled[0], real.train_speakers, scaled[1], real.dev_speakers), *scaled[2:]


def controls(real, number, seed=0, noise=0.05):
    """Name -> [N, K] "samples" whose answers are known. number: of samples; noise: added to copies, in units of the spread."""
    draw = np.random.default_rng([seed, 0])
    spread = noise * real.train.std(axis=0)

    def copies(of, size):
        chosen = of[draw.integers(len(of), size=size)]
        return chosen + spread * draw.standard_normal(chosen.shape)

    found = {"copied": copies(real.train, number)}
    if real.train.shape[1] < 2 * len(real.train):  # a Gaussian on more dimensions would only span its training points
        gaussian = LedoitWolf().fit(real.train)
        found["gaussian"] = draw.multivariate_normal(gaussian.location_, gaussian.covariance_, number, method="cholesky")
        few = max(1, number // 10)
        found["one_in_ten_copied"] = np.concatenate([copies(real.train, few), found["gaussian"][few:]])
    return found


def attack(real, samples, number, seed=0, speakers=True):
    """Every attack on each of `samples` (name -> vectors), on the controls, and on held-out real utterances.

    number: of samples of a control; speakers: the two attacks on speakers too
    returns: name -> {attack -> its result}
    """
    made = controls(real, number, seed)
    floors = {}
    if speakers and "gaussian" in made:
        floors = {"from_real": speakers_from_real(real, made["gaussian"], seed)["more_than_unknown"][0],
                  "from_samples": speakers_from_samples(real, made["gaussian"], seed)["accuracy"][0]}
    found = {}
    for name, vectors_ in {**samples, **made}.items():
        found[name] = {"membership": membership(real, vectors_, seed), "nearest": nearest(real, vectors_, seed)}
        if speakers:
            found[name] |= {"speakers_from_real": speakers_from_real(real, vectors_, seed, floors.get("from_real", 0.5)),
                            "speakers_from_samples": speakers_from_samples(real, vectors_, seed, floors.get("from_samples"))}
    found["held_out"] = {measure.__name__: held_out(real, measure, seed) for measure in (membership, nearest)}
    return found


def blind(found):
    """Names of the attacks that did not catch the copies, of what `attack` returned."""
    return [name for name, result in found["copied"].items() if not result["caught"]]


# speakers


def speakers_from_real(real, samples, seed=0, floor=0.5):
    """An attacker who learnt the training speakers from real speech hears the samples.

    His confidence (largest probability) is compared with that in dev utterances of speakers he knows, and in real
    utterances of speakers he does not know (attackers on four fifths of the speakers hear the others). `floor`: how
    often samples that know no speaker (the Gaussian control) get more confidence than a stranger.
    """
    knows = attacker(real.train, real.train_speakers)
    said = knows.predict_proba(samples)  # [N, S]
    known = knows.predict_proba(real.dev)
    unknown = []
    everyone = np.concatenate([real.train, real.dev]), np.concatenate([real.train_speakers, real.dev_speakers])
    folds = GroupKFold(min(5, len(knows.classes_)))
    for kept, left in folds.split(everyone[0], groups=everyone[1]):
        unknown.append(attacker(everyone[0][kept], everyone[1][kept]).predict_proba(everyone[0][left]).max(axis=1))
    unknown = np.concatenate(unknown)
    share = said.mean(axis=0)
    right = knows.classes_[known.argmax(axis=1)] == real.dev_speakers
    above, low, high = _auc(said.max(axis=1), unknown, seed)
    return {"accuracy_on_dev": _wilson(right), "chance": 1 / len(knows.classes_),
            "confidence": {"samples": _mean(said.max(axis=1), seed), "known_speakers": _mean(known.max(axis=1), seed),
                           "unknown_speakers": _mean(unknown, seed)},
            "more_than_unknown": [above, low, high],  # AUC: how often a sample gets more confidence than a stranger
            "floor": floor,
            "speakers_heard": float(np.exp(-(share * np.log(share + 1e-12)).sum())),  # effective number among the samples
            "caught": low > max(floor, 0.5)}


def speakers_from_samples(real, samples, seed=0, floor=None):
    """An attacker trains on samples, each named after the nearest training speaker, and hears real dev utterances.

    The names come from real speech (he has the speakers' mean vectors), so much of his accuracy is theirs: `floor` is
    what he reaches on samples that know no speaker (the Gaussian control); None takes chance.
    """
    names = np.unique(real.train_speakers)
    centres = np.stack([real.train[real.train_speakers == name].mean(axis=0) for name in names])
    given = names[cdist(samples, centres).argmin(axis=1)]
    found, counts = np.unique(given, return_counts=True)
    heard = found[counts > 1]  # of a single sample no spread is known
    usable = np.isin(given, heard)
    said = attacker(samples[usable], given[usable]).predict(real.dev) if len(heard) > 1 else np.repeat(found[counts.argmax()], len(real.dev))
    accuracy = _wilson(said == real.dev_speakers)
    by_means = names[cdist(real.dev, centres).argmin(axis=1)] == real.dev_speakers  # without any sample
    floor = 1 / len(names) if floor is None else floor
    return {"accuracy": accuracy, "floor": floor, "accuracy_of_means": _wilson(by_means), "chance": 1 / len(names),
            "speakers_named": len(found), "largest_share": float(counts.max() / len(given)), "caught": accuracy[1] > floor}


def attacker(values, names):
    """Linear discriminant analysis with a shrunk covariance, the classic of speaker recognition; nothing to tune."""
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values, names)


# memorised utterances


def membership(real, samples, seed=0):
    """Was this utterance in the training set? The nearer a sample, the more so. AUC over train (yes) and dev (no)."""
    nearest_sample = [-cdist(samples, part).min(axis=0) for part in (real.train, real.dev)]
    auc, low, high = _auc(*nearest_sample, seed)
    threshold = np.quantile(nearest_sample[1], 0.95)
    return {"auc": [auc, low, high], "found_at_5_percent_false": float((nearest_sample[0] > threshold).mean()), "caught": low > 0.5}


def nearest(real, samples, seed=0):
    """Mean distance of samples to the nearest training utterance over that to the nearest dev utterance; below 1 is nearer.

    Train is cut to the size of dev, again and again, for of two sets the larger is nearer by chance. The interval is
    that of the utterances, by the delete-half jackknife of the logarithm (a bootstrap's repeated utterances would thin
    both sets out and move the ratio).
    """
    draw = np.random.default_rng([seed, 1])
    size = len(real.dev)
    to_train, to_dev = cdist(samples, real.train), cdist(samples, real.dev)
    near_dev = to_dev.min(axis=1)
    logs, shares, halves = [], [], []
    for _ in range(ROUNDS):
        near_train = to_train[:, draw.choice(len(real.train), size, replace=False)].min(axis=1)
        logs.append(np.log(near_train.mean() / near_dev.mean()))
        shares.append((near_train < near_dev).mean())
        one, other = draw.choice(len(real.train), size // 2, replace=False), draw.choice(size, size // 2, replace=False)
        halves.append(np.log(to_train[:, one].min(axis=1).mean() / to_dev[:, other].min(axis=1).mean()))
    ratio, low, high = (float(np.exp(np.mean(logs) + side * np.std(halves))) for side in (0, -1.96, 1.96))
    return {"ratio": [ratio, low, high], "nearer_to_train": float(np.mean(shares)), "caught": high < 1}


def held_out(real, measure, seed=0, rounds=5):
    """`measure` where nothing was memorised: all utterances dealt anew as train, dev and "samples". How often it is caught."""
    everyone = np.concatenate([real.train, real.dev]), np.concatenate([real.train_speakers, real.dev_speakers])
    results = []
    for number in range(rounds):
        order = np.random.default_rng([seed, 2, number]).permutation(len(everyone[0]))
        dev, samples, train = np.split(order, [len(real.dev), 2 * len(real.dev)])
        dealt = Real(everyone[0][train], everyone[1][train], everyone[0][dev], everyone[1][dev])
        results.append(measure(dealt, everyone[0][samples], seed))
    caught = sum(result["caught"] for result in results)
    return {**results[0], "caught": caught > rounds / 2, "caught_rounds": f"{caught}/{rounds}"}


# intervals, 95 %


def _auc(higher, lower, seed):
    """[area under the ROC curve, low, high]: bootstrap over both groups."""
    draw = np.random.default_rng([seed, 3])
    truth = np.repeat([1, 0], [len(higher), len(lower)])
    wins = np.sign(higher[:, None] - lower).astype(np.float32) / 2 + 0.5  # [N, N']
    one, other = (draw.multinomial(size, np.full(size, 1 / size), ROUNDS) / size for size in wins.shape)
    boot = ((one.astype(np.float32) @ wins) * other).sum(axis=1)
    return [float(value) for value in (roc_auc_score(truth, np.concatenate([higher, lower])), *np.quantile(boot, [0.025, 0.975]))]


def _mean(values, seed):
    draw = np.random.default_rng([seed, 4])
    boot = draw.choice(values, (ROUNDS, len(values))).mean(axis=1)
    return [float(value) for value in (values.mean(), *np.quantile(boot, [0.025, 0.975]))]


def _wilson(right):
    return wilson(float(np.mean(right)), len(right))


def wilson(share, number, z=1.96):
    """[share, low, high]: Wilson's score interval of a share of `number` trials."""
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return [float(share), float(max(0.0, centre - half)), float(min(1.0, centre + half))]
