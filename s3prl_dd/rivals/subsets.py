"""Subsets of real utterances: which of each class, in which order. A smaller subset is a larger one's beginning."""

from collections.abc import Sequence

import torch

from ..rng import keyed


def random_subset(labels: Sequence[int] | torch.Tensor, wanted: Sequence[int], seed: int) -> list[int]:
    """Numbers of as many random utterances of each class as wanted [C], or all there are; class after class.

    labels: class indices of all utterances [N]
    """
    labels = torch.as_tensor(labels)
    chosen: list[int] = []
    for label, number in enumerate(wanted):
        of_class = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(of_class), generator=keyed(seed, "real subset", label))
        chosen += of_class[order[:number]].tolist()
    return chosen


def herded_subset(points: torch.Tensor, labels: torch.Tensor, wanted: Sequence[int]) -> list[int]:
    """The same, chosen by herding (Welling 2009; per class as in iCaRL, Rebuffi et al. 2017).

    Of each class the next utterance is the one that brings the mean of those chosen closest to the class's mean.
    points: utterance means [N, D], standardised; labels: their class indices [N]
    """
    chosen: list[int] = []
    for label, number in enumerate(wanted):
        of_class = (labels == label).nonzero()[:, 0]
        chosen += of_class[_herd(points[of_class], number)].tolist()
    return chosen


def _herd(points: torch.Tensor, number: int) -> torch.Tensor:
    """Places of the first `number` of points [N, D] in herding's order, or of all."""
    target, total = points.mean(dim=0), torch.zeros_like(points[0])
    free = torch.ones(len(points), dtype=torch.bool)
    order: list[int] = []
    for size in range(1, min(number, len(points)) + 1):
        distances = ((total + points) / size - target).norm(dim=1)  # [N]
        best = int(distances.masked_fill(~free, torch.inf).argmin())
        free[best] = False
        total = total + points[best]
        order.append(best)
    return torch.tensor(order)
