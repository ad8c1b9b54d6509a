"""The paper's losses (Eq. 1-8) as pure functions of tensors, and those beyond it.

B: batch, C: classes, M: heads. Every function returns a scalar to be minimised unless it says otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment

from .frames import lagged_covariance, modulation_power

Terms = dict[str, torch.Tensor]
"""Loss term by name -> its value, a scalar, not weighted yet."""


def weighted_sum(terms: Terms, weights: Mapping[str, float]) -> torch.Tensor:
    """Eq. 4, 5 and 8: the total of these terms."""
    total = sum(weights[name] * value for name, value in terms.items())
    assert isinstance(total, torch.Tensor)
    return total


def critic_score(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Eq. 1, score terms: E[D(G(z))] - E[D(x)]. real, fake: [B] critic scores. Its negative estimates Wasserstein-1."""
    return fake.mean() - real.mean()


def gradient_penalty(gradient: torch.Tensor) -> torch.Tensor:
    """Eq. 1, penalty: E[(||grad D(xh)||_2 - 1)^2]; gradient: [B, ...], of each score, at xh between real and fake."""
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def generator_score(fake: torch.Tensor) -> torch.Tensor:
    """Eq. 2: -E[D(G(z))]. fake: [B] critic scores."""
    return -fake.mean()


def feature_matching(real_maps: Sequence[torch.Tensor], fake_maps: Sequence[torch.Tensor],
                     classes: int | None = None,
                     over_ranks: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
    """Eq. 3: sum over layers of the mean |D^l(x) - D^l(G(z))|. maps: [B, ...] of each layer, real ones are detached.

    classes: given, the class means of the maps are compared instead of paired samples, which pull every sample towards
             its class's median; the classes of both sides are then 0, 1, ..., classes - 1, 0, 1, ...
    over_ranks: function that averages those class means over the ranks, each with as many samples of a class
    """
    total = torch.zeros((), device=fake_maps[0].device)
    for real, fake in zip(real_maps, fake_maps, strict=True):
        difference = fake - real.detach()
        if classes is not None:
            difference = difference.unflatten(0, (-1, classes)).mean(dim=0)
            difference = over_ranks(difference) if over_ranks else difference
        total = total + difference.abs().mean()
    return total


def softmax_matching(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Eq. 6: mean KL(p_m(x) || p_m(G(z))) over heads m and samples b, whose x_b and z_b share a label.

    real_logits, fake_logits: [M, B, C] of the pool's heads; real side detached
    """
    real = real_logits.detach().log_softmax(dim=-1)
    fake = fake_logits.log_softmax(dim=-1)
    return (real.exp() * (real - fake)).sum(dim=-1).mean()


def assign_within_class(real: torch.Tensor, fake: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Pair samples within each class by optimal assignment, beyond the paper.

    real, fake: [B, N] coordinates (say the pool's log softmax); labels: [B], shared by both sides
    returns: order [B], so that real[order][b] is the partner of fake[b] and has the same label
    """
    order = torch.arange(len(labels))
    labels = labels.cpu()
    cost = torch.cdist(fake.detach().float(), real.detach().float()).cpu()  # [B, B]
    for label in labels.unique():
        index = (labels == label).nonzero()[:, 0]
        rows, columns = linear_sum_assignment(cost[index][:, index].numpy())
        order[index[rows]] = index[columns]
    return order.to(fake.device)


class Diversity(NamedTuple):
    """Eq. 7's loss, and the share of pairs whose ratio was clamped, in [0, 1]."""

    loss: torch.Tensor
    clamped: torch.Tensor


def diversity(fake1: torch.Tensor, fake2: torch.Tensor, noise1: torch.Tensor, noise2: torch.Tensor,
              tau: float) -> Diversity:
    """Eq. 7: -E[min(||G(z1) - G(z2)|| / ||z1 - z2||, tau)], pairs of the same class; the RATIO is clamped.

    fake1, fake2: [B, ...]; noise1, noise2: [B, Z]
    """
    ratio = diversity_ratio(fake1, fake2, noise1, noise2)
    return Diversity(-ratio.clamp(max=tau).mean(), (ratio > tau).float().mean())


def diversity_ratio(fake1: torch.Tensor, fake2: torch.Tensor, noise1: torch.Tensor,
                    noise2: torch.Tensor) -> torch.Tensor:
    """[B] ||G(z1) - G(z2)|| / ||z1 - z2||; the norm over frames is a root mean square times sqrt(D), see below.

    Frames are averaged, not summed, so that tau means the same for any number of frames T.
    """
    difference = fake1 - fake2
    if difference.dim() == 2:
        squared = difference.square().sum(dim=1)
    else:
        squared = difference.flatten(2).square().sum(dim=2).mean(dim=1)
    return squared.clamp(min=1e-12).sqrt() / (noise1 - noise2).norm(dim=1).clamp(min=1e-6)


# beyond the paper


def maximum_mean_discrepancy(real: torch.Tensor, fake: torch.Tensor,
                             bandwidths: Sequence[float] = (0.5, 1.0, 2.0)) -> torch.Tensor:
    """Unbiased MMD^2 between two sets of utterance means (Gretton et al. 2012, U-statistic), without its constant.

    Kernel: linear plus RBFs exp(-||a - b||^2 / (2 (s * median)^2)); median: the real set's median pairwise distance.
    The term of real pairs alone has no gradient and is left out, so the value may be negative.
    real: [N, D]; fake: [n, D], n >= 2; both in units of the real spread
    """
    with torch.no_grad():
        median = torch.pdist(real).median().clamp(min=1e-6)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = torch.cdist(a, b).square()
        return a @ b.T / a.shape[1] + sum(torch.exp(-squared / (2 * (s * median) ** 2)) for s in bandwidths)

    same, count = kernel(fake, fake), len(fake)
    return (same.sum() - same.diagonal().sum()) / (count * (count - 1)) - 2 * kernel(fake, real).mean()


LAGS = (0, 1)
"""Of the covariances that frame_covariance compares."""


def frame_covariance(real: torch.Tensor, fake: torch.Tensor, classes: int) -> torch.Tensor:
    """Squared distance of the classes' covariances within utterances, of a frame with itself and with the next one.

    In units of the real one's squared norm: 0 where they are equal, 1 for frames that stand still. It is a product of
    two halves of the batch, so the noise of few samples adds nothing to it on average; it may be negative.

    real, fake: [B, T, D], T >= 2, labels 0, 1, ..., C - 1, 0, 1, ...; at least two of each class
    """
    half = len(fake) // classes // 2
    total, norm = fake.new_zeros(()), fake.new_zeros(())
    for lag in LAGS:
        real_one, real_other = _covariances_of_halves(real.detach(), lag, classes, half)
        fake_one, fake_other = _covariances_of_halves(fake, lag, classes, half)
        total = total + ((real_one - fake_one) * (real_other - fake_other)).sum()
        norm = norm + (real_one * real_other).sum()
    return total / norm.clamp(min=1e-6)


def _covariances_of_halves(frames: torch.Tensor, lag: int, classes: int, half: int) -> list[torch.Tensor]:
    """Of the first `half` samples of each class, and of the next: two of [C, D, D]. frames: [B, T, D]"""
    by_class = frames.unflatten(0, (-1, classes))  # [B / C, C, T, D]
    return [lagged_covariance(part, lag) for part in by_class.split(half)[:2]]


def modulation(real: torch.Tensor, fake: torch.Tensor, classes: int) -> torch.Tensor:
    """Mean squared difference of log power by class, octave of modulation and dimension (frames.modulation_power).

    real, fake: [B, T, D], labels 0, 1, ..., C - 1, 0, 1, ...
    """
    logs = [(modulation_power(frames).unflatten(0, (-1, classes)).mean(dim=0) + 1e-4).log()  # [C, bands, D]
            for frames in (real.detach(), fake)]
    return (logs[1] - logs[0]).square().mean()
