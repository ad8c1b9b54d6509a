"""Points that are learnt, on utterance means: the two strongest of today's dataset distillation on frozen features.

    gradient_matching    random linear heads get the same gradient from the points as from all real utterances
                         (Cazenavette et al. 2025, linear gradient matching)
    closed_form          the ridge regression of the points is right about the real utterances (distill/points.py)

Points are in units of the real spread. Their labels follow them: the teacher's softmax where they lie, or their class.
"""

import torch

from ..config import Count, Positive, settings
from ..distill.matching import gradient_distance, head_gradients, random_heads
from ..distill.points import Descent, LabelsOf, Real, descend
from ..rng import keyed


@settings
class Matching(Descent):
    """How gradients are matched, in units of the real spread. Chosen on dev (RAVDESS folds 1-3)."""

    heads: Count = 8
    """Random heads of a step."""

    logits: Positive = 1.0
    """Spread of the random heads' logits over real points."""


def gradient_matching(start: torch.Tensor, labels_of: LabelsOf, real: Real, matching: Matching,
                      seed: int) -> torch.Tensor:
    """Points [n, D] learnt from `start` by gradients of random linear heads, new ones at each step."""
    classes, dim = real.targets.shape[1], start.shape[1]

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        heads = random_heads(matching.heads, classes, dim, keyed(seed, "random heads", step), matching.logits)
        wanted = head_gradients(heads, real.points, real.targets)
        return gradient_distance(wanted, head_gradients(heads, points, labels_of(points)))

    return descend(start, loss, matching)
