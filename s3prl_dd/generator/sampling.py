"""How a set of samples is drawn when nobody says otherwise: the one place of these defaults."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator

from ..config import settings
from .budget import Budget

Labels = Literal["soft", "hard"]
Lengths = Literal["generator", "corpus"]
ResolvedCenter = bool | Literal["teaching", "learnt"]
"""Where each class of a set is shifted. False: nowhere (the paper). True: to the mean of the real class. teaching: to
the class's teaching point (centers.py). learnt: each sample to a learnt point of the file."""

Center = bool | Literal["teaching", "learnt", "auto"]
"""The same, or auto, which `resolve_center` chooses by the head and the size of the set."""


def _auto_or_sets(value: object) -> object:
    """1 and 0, which elsewhere pass for true and false, could mean one set or none here."""
    if value == "auto" or isinstance(value, bool) or isinstance(value, int) and value >= 2:
        return value
    raise ValueError(f"expected auto, true, false, or a number of sets from 2 up, found {value!r}")


Resample = Annotated[bool | int | Literal["auto"], BeforeValidator(_auto_or_sets)]
"""See Sampling.resample."""

SETS = 8
"""Sets in turn where `resample: auto` takes several."""


@settings
class Sampling:
    """Options of a set of samples. What they are here is what every command does that leaves them away."""

    labels: Labels = "soft"
    """What heads learn: soft, the mean softmax of the file's teacher, or hard, the class alone."""

    center: Center = "auto"
    """Where each class of a set is shifted, which makes small sets good. false: nowhere (the paper). true: to the mean
    of the real class. teaching: to the class's teaching point (generator/centers.py). learnt: each sample to a learnt
    point of the file (distill/points.py). auto: for heads that read utterance means learnt where it is one set and the
    file has points enough, else teaching for sets of up to 50 a class; in all other cases true (docs/method.md)."""

    resample: Resample = "auto"
    """false: one fixed set. true: a new set each epoch. A number K, from 2 up: K sets in turn, epoch by epoch. auto: 8
    sets in turn where the budget is as many points as the corpus has; a budget in numbers is one set of so many, whose
    frames, for heads that hear them, deviate from the same utterance means in 8 ways in turn."""

    lengths: Lengths = "generator"
    """Frames of a sample: generator, the network's own T, or corpus, stretched to lengths drawn from the corpus's."""


SMALL = 50
"""Samples of a class up to which a set for heads on utterance means does better at teaching points than at class means;
of 100 it does not. Chosen with speakers held out within the training part of RAVDESS fold1."""


def resolve_center(center: Center, counts: Sequence[int], means: bool, fixed: bool, learnt: int, teacher: bool
                   ) -> ResolvedCenter:
    """What `center` means for a set of so many samples of each class [C]; all but auto are what they are.

    means: for heads that read utterance means; fixed: one set, not several in turn, which would have the same points
    learnt: points of each class that the file carries, 0: none; teacher: whether it carries one
    """
    if center != "auto":
        return center
    most = max(counts)
    if not means:
        return True
    if fixed and most <= learnt:
        return "learnt"
    return "teaching" if most <= SMALL and teacher else True


def sets_of(resample: Resample, budget: Budget) -> bool | int:
    """What `resample` means for this budget, `auto` resolved."""
    if resample == "auto":
        return SETS if isinstance(budget, str) else False
    return resample


def ways_of(resample: Resample, budget: Budget) -> int:
    """In how many ways in turn the frames of a set of this budget deviate, for heads that hear them."""
    return SETS if resample == "auto" and sets_of(resample, budget) is False else 1


def sets_in_words(resample: bool | int, ways: int = 1) -> str:
    """How often samples are drawn anew. resample: `auto` resolved; ways: see ways_of"""
    if ways > 1:
        return f"one fixed set whose frames deviate in {ways} ways in turn"
    if isinstance(resample, bool):
        return "a new set each epoch" if resample else "one fixed set"
    return f"{resample} sets in turn"


def set_of(resample: bool | int, epoch: int) -> int:
    """The number of the set that an epoch sees, which is the epoch of its noise. resample: see Sampling"""
    if isinstance(resample, bool):
        return epoch if resample else 0
    return epoch % resample


DEFAULTS = Sampling()

CENTERED: ResolvedCenter = True
"""Where samples lie that are drawn for no particular head: as `auto` has them for frame-level heads."""
