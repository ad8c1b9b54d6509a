"""An attacker on speakers who knows the generator file: its classes, and what its speaker suppression leaves of speech.

speakers_from_samples (attacks.py) names samples after the speaker whose mean is nearest. Samples that do not differ
where the speakers' means do are all named after one, so he learns nothing, whatever else they hold. This attacker hears
real speech as the file suppresses it, and looks at each class by itself: a file with speaker suppression may still tell
how a speaker's utterances of a class differ from it. He names samples by that, class by class, trains on them, and
hears real dev speech whose class he knows.

`copied` must be caught; `noise`, which has the spread of each dimension within its class and knows nobody, is what the
attacker brings along.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ..config import settings
from ..evaluation.significance import Interval
from . import intervals
from .attacks import COPY_NOISE, can_be_learnt, guessed_from, named_after, noisy

Heard = Callable[[np.ndarray], np.ndarray]
"""Real utterance means [N, D] -> the same as a file's speaker suppression leaves them."""


class Spoken(NamedTuple):
    """Utterance means whose class and, of real speech, speaker are known."""

    means: np.ndarray
    """[N, D]"""
    labels: np.ndarray
    """[N] class indices."""
    speakers: np.ndarray | None = None
    """[N] names; None of samples."""


class Sampled(NamedTuple):
    """What a generator file gives."""

    samples: Spoken
    """Its samples."""
    heard: Heard
    """What it leaves of real speech."""


@settings
class WithinClass:
    """What the attack found."""

    accuracy: Interval
    """How often he names dev utterances rightly; Wilson's interval."""
    floor: float
    """The same where the samples are `noise`."""
    chance: float
    """One over the number of speakers."""
    caught: bool
    """Whether the interval lies beyond the floor."""


@threadpool_limits.wrap(limits=1, user_api="blas")  # see attacks.attack
def attack_within(train: Spoken, dev: Spoken, files: Mapping[str, Sampled], number: int,
                  seed: int = 0) -> dict[str, WithinClass]:
    """The attack on each file's samples, and on the controls, for which real speech is heard as it is.

    number: of samples of a control
    returns: name -> what it found; nothing where speakers cannot be learnt (attacks.can_be_learnt)
    """
    assert train.speakers is not None and dev.speakers is not None
    if not can_be_learnt(train.speakers):
        return {}
    made = {name: Sampled(samples, lambda means: means) for name, samples in _controls(train, number, seed).items()}
    right = {name: named_rightly(train, dev, sampled) for name, sampled in {**files, **made}.items()}
    chance, floor = 1 / len(np.unique(train.speakers)), float(right["noise"].mean())
    found = {}
    for name, hits in right.items():
        accuracy = intervals.wilson_of(hits)
        found[name] = WithinClass(accuracy, floor, chance, caught=accuracy.low > max(floor, chance))
    return found


def named_rightly(train: Spoken, dev: Spoken, sampled: Sampled) -> np.ndarray:
    """Which dev utterances [N'] he names rightly."""
    assert dev.speakers is not None
    guessed = np.empty_like(dev.speakers)
    spread = train.means.std(axis=0) + 1e-8  # [D]
    for label in np.unique(dev.labels):
        known, unknown, samples = (_of_class(spoken, label) for spoken in (train, dev, sampled.samples))
        offsets = Offsets.of(sampled.heard(known.means) / spread, known.speakers)
        heard = sampled.heard(unknown.means) / spread - offsets.middle
        guessed[dev.labels == label] = offsets.guess(samples.means / spread, heard)
    return guessed == dev.speakers


class Offsets(NamedTuple):
    """How the speakers of a class differ from it."""

    names: np.ndarray
    """[S]"""
    middle: np.ndarray
    """[D], the class mean."""
    centres: np.ndarray
    """[S, D], each speaker's mean from `middle`."""

    @classmethod
    def of(cls, means: np.ndarray, speakers: np.ndarray | None) -> "Offsets":
        """Of real utterance means [N, D] of one class."""
        assert speakers is not None
        names = np.unique(speakers)
        middle = means.mean(axis=0)
        centres = np.stack([means[speakers == name].mean(axis=0) for name in names]) - middle
        return cls(names, middle, centres)

    def guess(self, samples: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """The speakers [N'] of utterances [N', D], from the class mean, by training on samples [N, D] of the class."""
        offsets = samples - samples.mean(axis=0)
        return guessed_from(offsets, named_after(offsets, self.names, self.centres), unknown)


def _controls(train: Spoken, number: int, seed: int) -> dict[str, Spoken]:
    """Name -> so many "samples" for which the answer is known."""
    draw = np.random.default_rng([seed, 8])
    chosen = draw.integers(len(train.means), size=number)
    labels = train.labels[chosen]
    copied = noisy(train.means[chosen], train.means, COPY_NOISE, draw)
    white = draw.standard_normal(copied.shape)
    noise = np.empty_like(copied)
    for label in np.unique(labels):
        real = _of_class(train, label).means
        noise[labels == label] = real.mean(axis=0) + real.std(axis=0) * white[labels == label]
    return {"copied": Spoken(copied, labels), "noise": Spoken(noise, labels)}


def _of_class(spoken: Spoken, label: int) -> Spoken:
    """What is of one class."""
    chosen = spoken.labels == label
    speakers = None if spoken.speakers is None else spoken.speakers[chosen]
    return Spoken(spoken.means[chosen], spoken.labels[chosen], speakers)
