"""How a set of samples is drawn when nobody says otherwise: the one place of these defaults."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from ..config import settings
from .budget import Budget

Labels = Literal["soft", "hard"]
Lengths = Literal["generator", "corpus"]
Center = bool | Literal["teaching", "learnt", "auto"]
"""See Sampling.center."""


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
    """Where each class of a set is shifted, which makes small sets good. true: to the class's mean. teaching: to the
    point that teaches a head the class (generator/centers.py). learnt: each sample to a point of its own, those that
    the file carries (distill/points.py). auto: for heads that read utterance means learnt where it is one set and the
    file has points enough, else teaching for sets of up to 50 a class; else, and for heads that hear frames, true.
    false: not at all."""

    resample: Resample = "auto"
    """false: one fixed set. true: a new set each epoch. A number K, from 2 up: K sets in turn, epoch by epoch. auto: 8
    sets in turn where the budget is as many points as the corpus has; a budget in numbers is one set of so many, whose
    frames, for heads that hear them, move about the same utterance means in 8 ways in turn."""

    lengths: Lengths = "generator"
    """Frames of a sample: generator, the network's own T, or corpus, stretched to lengths drawn from the corpus's."""


def sets_of(resample: Resample, budget: Budget) -> bool | int:
    """What `resample` means for this budget, `auto` resolved."""
    if resample == "auto":
        return SETS if isinstance(budget, str) else False
    return resample


def movements_of(resample: Resample, budget: Budget) -> int:
    """In how many ways in turn the frames of a set of this budget move, for heads that hear them."""
    return SETS if resample == "auto" and sets_of(resample, budget) is False else 1


def sets_in_words(resample: bool | int, movements: int = 1) -> str:
    """How often samples are drawn anew. resample: `auto` resolved"""
    if movements > 1:
        return f"one fixed set that moves in {movements} ways in turn"
    if isinstance(resample, bool):
        return "a new set each epoch" if resample else "one fixed set"
    return f"{resample} sets in turn"


def set_of(resample: bool | int, epoch: int) -> int:
    """The number of the set that an epoch sees, which is the epoch of its noise. resample: see Sampling"""
    if isinstance(resample, bool):
        return epoch if resample else 0
    return epoch % resample


DEFAULTS = Sampling()
