"""Points that are learnt, on utterance means: the two strongest of today's dataset distillation on frozen features.

    gradient_matching    random linear heads get the same gradient from the points as from all real utterances
                         (Cazenavette et al. 2025, linear gradient matching)
    closed_form          the ridge regression of the points is right about the real utterances (as KIP, Nguyen et al.
                         2021, with the cross-entropy over a temperature that CLP-DD takes)

Points are in units of the real spread. Their labels follow them: the teacher's softmax where they lie, or their class.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.optim.lr_scheduler import LinearLR

from ..config import Count, Positive, settings
from ..distill.matching import closed_form_loss, gradient_distance, head_gradients, random_heads, ridge_head
from ..rng import keyed

LabelsOf = Callable[[torch.Tensor], torch.Tensor]
"""Points [n, D] -> what a head is to learn of them, class probabilities [n, C]."""


class Real(NamedTuple):
    """What is learnt from."""

    points: torch.Tensor
    """Utterance means [N, D], in units of their spread."""

    targets: torch.Tensor
    """Class probabilities [N, C]."""


@settings
class Learning:
    """How points are learnt. Chosen on dev (RAVDESS folds 1-3)."""

    steps: Count = 500
    """Of Adam."""

    lr: Positive = 0.05
    """Adam's learning rate at first, in units of the real spread; it falls to 0."""

    heads: Count = 8
    """Gradient matching: random heads of a step."""

    logits: Positive = 1.0
    """Gradient matching: spread of the random heads' logits over real points."""

    ridge: Positive = 1.0
    """Closed form: weight of the squared norm, for each point."""

    temperature: Positive = 0.3
    """Closed form: what the regression's outputs are divided by."""


def gradient_matching(start: torch.Tensor, labels_of: LabelsOf, real: Real, learning: Learning,
                      seed: int) -> torch.Tensor:
    """Points [n, D] learnt from `start` by gradients of random linear heads, new ones at each step."""
    classes, dim = real.targets.shape[1], start.shape[1]

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        heads = random_heads(learning.heads, classes, dim, keyed(seed, "random heads", step), learning.logits)
        wanted = head_gradients(heads, *real)
        return gradient_distance(wanted, head_gradients(heads, points, labels_of(points)))

    return descend(start, loss, learning)


def closed_form(start: torch.Tensor, labels_of: LabelsOf, real: Real, learning: Learning) -> torch.Tensor:
    """Points [n, D] learnt from `start` by what the ridge regression of them says of the real ones."""

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        head = ridge_head(points, labels_of(points), learning.ridge)
        return closed_form_loss(head, *real, learning.temperature)

    return descend(start, loss, learning)


def descend(start: torch.Tensor, loss: Callable[[torch.Tensor, int], torch.Tensor],
            learning: Learning) -> torch.Tensor:
    """Where Adam comes from `start`, by a loss of the points and the step's number."""
    points = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([points], lr=learning.lr)
    schedule = LinearLR(optimizer, 1.0, 0.0, total_iters=learning.steps)
    for step in range(learning.steps):
        optimizer.zero_grad()
        loss(points, step).backward()
        optimizer.step()
        schedule.step()
    return points.detach()
