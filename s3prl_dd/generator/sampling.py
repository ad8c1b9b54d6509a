"""How a set of samples is drawn when nobody says otherwise: the one place of these defaults."""

from typing import Literal

from ..config import settings

Labels = Literal["soft", "hard"]
Lengths = Literal["generator", "corpus"]


@settings
class Sampling:
    """Options of a set of samples. What they are here is what every command does that leaves them away."""

    labels: Labels = "soft"
    """What heads learn: soft, the mean softmax of the file's teacher, or hard, the class alone."""

    center: bool = True
    """Shift each class of a set to the class's mean, see Generator.shift: what makes small sets good."""

    resample: bool = False
    """Draw new samples each epoch; else one fixed set is drawn once."""

    lengths: Lengths = "generator"
    """Frames of a sample: generator, the network's own T, or corpus, stretched to lengths drawn from the corpus's."""


DEFAULTS = Sampling()
