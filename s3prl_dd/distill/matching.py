"""What few points must have of many: they teach a linear head the same. Pure functions of utterance means.

Gradient matching (Cazenavette et al. 2025): random linear heads have the same gradient on both sets, up to its length.
Closed-form heads: the head that ridge regression makes of the few points is right about the many.

M: heads, C: classes, n: points. Points are utterance means [n, D] in units of the real spread (data.Scale); targets
[n, C] are class probabilities, one-hot or soft.
"""

import math

import torch
import torch.nn.functional as F

from ..generator import LinearHeads


def random_heads(number: int, classes: int, dim: int, generator: torch.Generator, spread: float = 1.0) -> LinearHeads:
    """`number` linear heads without bias, whose logits spread by `spread` over points of unit spread."""
    weight = torch.randn(number, classes, dim, generator=generator) * (spread / dim**0.5)
    return LinearHeads(weight, torch.zeros(number, classes))


def head_gradients(heads: LinearHeads, points: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Gradient of the mean cross-entropy by each head's weight and bias: [M, C, D + 1].

    points: [n, D]; targets: [n, C]
    """
    wrong = heads.of_means(points).softmax(dim=-1) - targets  # [M, n, C]
    by_weight = wrong.transpose(1, 2) @ points  # [M, C, D]
    return torch.cat([by_weight, wrong.sum(dim=1)[..., None]], dim=2) / len(points)


def gradient_distance(real: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """1 - cosine of each head's two gradients [M, C, D + 1], mean over the heads; the real side detached. 0 to 2."""
    return 1 - F.cosine_similarity(real.detach().flatten(1), learnt.flatten(1), dim=1).mean()


def ridge_head(points: torch.Tensor, targets: torch.Tensor, ridge: float) -> LinearHeads:
    """The one head (M = 1) that ridge regression makes of points [n, D] and targets [n, C]; gradients pass.

    Least squares of centred targets, plus n * ridge * |weight|^2, solved by n points rather than D dimensions.
    """
    center, level = points.mean(dim=0), targets.mean(dim=0)
    centred = points - center
    kernel = centred @ centred.T  # [n, n]
    eye = torch.eye(len(points), dtype=points.dtype, device=points.device)
    weight = torch.linalg.solve(kernel + len(points) * ridge * eye, targets - level).T @ centred  # [C, D]
    return LinearHeads(weight[None], (level - weight @ center)[None])


def closed_form_losses(head: LinearHeads, points: torch.Tensor, targets: torch.Tensor,
                       temperature: float) -> torch.Tensor:
    """Cross-entropy of a head's outputs (M = 1), over `temperature`, on real points [N, D] with targets [N, C]: [N]."""
    logits = head.of_means(points)[0] / temperature  # [N, C]
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)


def tilted_mean(losses: torch.Tensor, groups: torch.Tensor, tilt: float) -> torch.Tensor:
    """A mean over groups in which the worst weigh most: log(mean_g exp(tilt * m_g)) / tilt, m_g the mean of group g.

    losses: [N]; groups: indices [N], none without a loss; tilt: above 0; at 0 it would be the mean of the groups' means
    Tilted empirical risk (Li et al. 2021, Eq. 8).
    """
    count = int(groups.max()) + 1
    sums = losses.new_zeros(count).index_add_(0, groups, losses)
    means = sums / torch.bincount(groups, minlength=count)  # [G]
    return (torch.logsumexp(tilt * means, dim=0) - math.log(count)) / tilt
