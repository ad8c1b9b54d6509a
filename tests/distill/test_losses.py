"""Eq. 1-8 and the losses beyond the paper, each against a closed form or a computation that shares no code with it."""

import itertools
import math

import numpy as np
import pytest
import torch

from s3prl_dd.distill import losses


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# the total


def test_total_is_the_weighted_sum_of_the_terms_that_are_there():
    terms = {"critic_score": torch.tensor(2.0), "mmd": torch.tensor(-3.0)}
    assert losses.weighted_sum(terms, {"critic_score": 1, "mmd": 0.5, "diversity": 7}).item() == 2 - 1.5


# Eq. 1 and 2


def test_critic_score_is_fake_minus_real():
    assert losses.critic_score(torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0])).item() == 15 - 2
    assert losses.generator_score(torch.tensor([10.0, 20.0])).item() == -15


def test_gradient_penalty_by_hand():
    gradient = randn(6, 4, 2, seed=1)
    by_hand = [(np.linalg.norm(sample) - 1) ** 2 for sample in gradient.numpy()]
    assert losses.gradient_penalty(gradient).item() == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert losses.gradient_penalty(torch.eye(3)[:, None]).item() == 0  # a norm of 1 costs nothing


# Eq. 3


def test_feature_matching_by_sample():
    real = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[[0.0]], [[10.0]]])]
    fake = [torch.tensor([[2.0, 0.0], [3.0, 8.0]]), torch.tensor([[[1.0]], [[10.0]]])]
    assert losses.feature_matching(real, fake).item() == (1 + 2 + 0 + 4) / 4 + (1 + 0) / 2


def test_feature_matching_by_class_compares_class_means():
    real, fake = [torch.tensor([[0.0], [5.0], [2.0], [5.0]])], [torch.tensor([[2.0], [7.0], [0.0], [6.0]])]
    assert losses.feature_matching(real, fake, 2).item() == (abs(1 - 1) + abs(6.5 - 5)) / 2
    assert losses.feature_matching(real, fake).item() == (2 + 2 + 2 + 1) / 4


def test_feature_matching_holds_the_real_side():
    real, fake = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    losses.feature_matching([real], [fake]).backward()
    assert real.grad is None
    torch.testing.assert_close(fake.grad, torch.full((2, 3), 1 / 6))


def test_feature_matching_refuses_unequal_layers():
    with pytest.raises(ValueError):
        losses.feature_matching([torch.zeros(1, 1)] * 2, [torch.zeros(1, 1)])


# Eq. 6


def logits(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_softmax_matching_is_kl_from_real_to_generated():
    real, fake = logits([0.5, 0.5])[None], logits([0.9, 0.1])[None]
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert losses.softmax_matching(real, fake).item() == pytest.approx(expected)
    reverse = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert abs(losses.softmax_matching(real, fake).item() - reverse) > 0.1


def test_softmax_matching_is_the_mean_over_heads_and_samples():
    real, fake = randn(3, 4, 5, seed=1), randn(3, 4, 5, seed=2)
    p, q = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (real.numpy(), fake.numpy()))
    by_hand = sum(p[index] * math.log(p[index] / q[index]) for index in np.ndindex(3, 4, 5)) / 12
    assert losses.softmax_matching(real, fake).item() == pytest.approx(by_hand)


def test_softmax_matching_holds_the_real_side():
    real, fake = randn(2, 4, 3, seed=1).requires_grad_(), randn(2, 4, 3, seed=2).requires_grad_()
    losses.softmax_matching(real, fake).backward()
    assert real.grad is None and fake.grad.abs().sum() > 0


def test_softmax_matching_gradient_is_q_minus_p():
    real, fake = randn(1, 1, 4, seed=1), randn(1, 1, 4, seed=2).requires_grad_()
    losses.softmax_matching(real, fake).backward()
    torch.testing.assert_close(fake.grad, fake.detach().softmax(-1) - real.softmax(-1))


@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_best_permutation_within_the_class(seed):
    labels = torch.tensor([0, 1, 0, 1, 0, 0, 1])
    real, fake = randn(7, 3, seed=seed), randn(7, 3, seed=100 + seed)
    order = losses.assign_within_class(real, fake, labels)
    assert sorted(order.tolist()) == list(range(7)) and torch.equal(labels[order], labels)
    cost = np.linalg.norm(fake.numpy()[:, None] - real.numpy()[None], axis=-1)
    best = 0.0
    for label in (0, 1):
        members = (labels == label).nonzero()[:, 0].tolist()
        best += min(cost[members, list(chosen)].sum() for chosen in itertools.permutations(members))
    assert sum(cost[b, order[b]] for b in range(7)) == pytest.approx(best, rel=1e-5)


def test_assignment_finds_a_shuffle_again():
    real, shuffle = randn(6, 4), torch.tensor([4, 5, 0, 1, 2, 3])
    order = losses.assign_within_class(real, real[shuffle], torch.tensor([0, 1, 0, 1, 0, 1]))
    assert torch.equal(order, shuffle)


# Eq. 7


def test_diversity_clamps_the_ratio():
    """Ratios 1 and 9 at tau 4: -(1 + 4) / 2. Clamping the negative loss at tau would leave -(1 + 9) / 2."""
    noise1, noise2 = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    fake1, fake2 = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 18.0, 0.0]])
    assert losses.diversity_ratio(fake1, fake2, noise1, noise2).tolist() == pytest.approx([1, 9])
    assert [part.item() for part in losses.diversity(fake1, fake2, noise1, noise2, tau=4)] == pytest.approx([-2.5, 0.5])
    assert [part.item() for part in losses.diversity(fake1, fake2, noise1, noise2, tau=100)] == pytest.approx([-5, 0])


def test_diversity_has_no_gradient_beyond_tau():
    noise1, noise2 = torch.zeros(2, 1), torch.ones(2, 1)
    fake = torch.tensor([[1.0], [9.0]], requires_grad=True)
    losses.diversity(fake, torch.zeros(2, 1), noise1, noise2, tau=4).loss.backward()
    assert fake.grad.tolist() == [[-0.5], [0.0]]


def test_diversity_of_frames_does_not_depend_on_their_number():
    noise1, noise2 = randn(3, 4, seed=1), randn(3, 4, seed=2)
    step = randn(3, 1, 5, seed=3)
    ratios = []
    for frames in (1, 7):
        moved = step.repeat(1, frames, 1)
        ratios.append(losses.diversity_ratio(moved, torch.zeros_like(moved), noise1, noise2))
    by_hand = np.linalg.norm(step.numpy()[:, 0], axis=1) / np.linalg.norm(noise1.numpy() - noise2.numpy(), axis=1)
    for ratio in ratios:
        np.testing.assert_allclose(ratio, by_hand)


def test_diversity_is_finite_for_equal_pairs():
    fake = torch.ones(2, 3, requires_grad=True)
    losses.diversity(fake, torch.ones(2, 3), torch.zeros(2, 2), torch.zeros(2, 2), tau=10).loss.backward()
    assert torch.isfinite(fake.grad).all()


# beyond the paper


def mmd_by_loops(real, fake, bandwidths=(0.5, 1.0, 2.0)):
    """Without the term of real pairs, as the loss."""
    distances = sorted(np.linalg.norm(a - b) for a, b in itertools.combinations(real, 2))
    median = distances[(len(distances) - 1) // 2]  # torch's lower median

    def kernel(a, b):
        squared = np.sum((a - b) ** 2)
        return a @ b / len(a) + sum(math.exp(-squared / (2 * (s * median) ** 2)) for s in bandwidths)

    same = [kernel(a, b) for i, a in enumerate(fake) for j, b in enumerate(fake) if i != j]
    return np.mean(same) - 2 * np.mean([kernel(a, b) for a in fake for b in real])


def test_mmd_against_loops():
    real, fake = randn(9, 4, seed=1), 0.5 + randn(5, 4, seed=2)
    expected = mmd_by_loops(real.numpy(), fake.numpy())
    assert losses.maximum_mean_discrepancy(real, fake).item() == pytest.approx(expected, rel=1e-6)


def test_mmd_is_unbiased_in_the_batch():
    """With the constant added: draws of the real distribution score 0 within the error of 400 draws, no others do."""
    real, points = randn(10, 3, seed=1), 0.3 + randn(8, 3, seed=2)
    batches = [losses.maximum_mean_discrepancy(real, points[list(chosen)]).item()
               for chosen in itertools.combinations(range(8), 3)]
    assert np.mean(batches) == pytest.approx(mmd_by_loops(real.numpy(), points.numpy()), rel=1e-6)


def test_mmd_of_equal_distributions_is_zero_on_average():
    """With the constant added: draws of the real distribution score 0 within the error of 400 draws, others do not."""
    real = randn(200, 3, seed=1)
    distances = torch.pdist(real).median()
    squared = torch.cdist(real, real) ** 2
    rbfs = sum(torch.exp(-squared / (2 * (s * distances) ** 2)) for s in (0.5, 1, 2))
    constant = (real @ real.T / 3 + rbfs).mean().item()  # of the real set as it is, drawn with replacement
    chosen = torch.randint(200, (400, 8), generator=torch.Generator().manual_seed(0))
    scores = np.array([losses.maximum_mean_discrepancy(real, real[index]).item() + constant for index in chosen])
    shifted = np.array([losses.maximum_mean_discrepancy(real, real[index] + 0.5).item() + constant for index in chosen])
    assert abs(scores.mean()) < 4 * scores.std() / 20
    assert shifted.mean() > 10 * shifted.std() / 20
