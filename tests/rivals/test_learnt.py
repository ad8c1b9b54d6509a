"""Points that are learnt: they do what their loss says, by Adam, from where they start."""

import pytest
import torch
import torch.nn.functional as F

from s3prl_dd.distill.matching import closed_form_loss, gradient_distance, head_gradients, random_heads, ridge_head
from s3prl_dd.rivals.learnt import Learning, Real, closed_form, descend, gradient_matching
from s3prl_dd.rng import keyed


def two_classes(number: int = 40) -> Real:
    """Two classes that differ along the first of four axes, but for noise."""
    labels = torch.arange(number) % 2
    points = torch.randn(number, 4, generator=keyed("real"))
    points[:, 0] += 2 * (2 * labels - 1)
    return Real(points, F.one_hot(labels, 2).float())


def labels_of(points: torch.Tensor) -> torch.Tensor:
    """A teacher that knows the axis."""
    return torch.stack([-points[:, 0], points[:, 0]], dim=1).softmax(dim=1)


def test_adam_at_a_rate_that_falls_to_nothing():
    start = torch.tensor([[3.0, -2.0]])
    found = descend(start, lambda points, step: (points - 1).square().sum(), Learning(steps=400, lr=0.05))
    torch.testing.assert_close(found, torch.ones(1, 2), atol=0.01, rtol=0)
    steps = []
    learning = Learning(steps=4, lr=1.0)
    descend(start, lambda points, step: steps.append(points.detach().clone()) or points.sum(), learning)
    moved = [round((before - after)[0, 0].item(), 4) for before, after in zip(steps, steps[1:], strict=False)]
    assert moved == [1.0, 0.75, 0.5] and start.tolist() == [[3.0, -2.0]]


def test_gradient_matching_brings_the_gradients_of_new_heads_together():
    real, start = two_classes(), torch.randn(4, 4, generator=keyed("start"))
    learnt = gradient_matching(start, labels_of, real, Learning(steps=150), seed=0)
    heads = random_heads(50, 2, 4, keyed("others"))
    wanted = head_gradients(heads, *real)
    before, after = (gradient_distance(wanted, head_gradients(heads, points, labels_of(points))).item()
                     for points in (start, learnt))
    assert after < 0.5 * before
    assert not torch.equal(learnt, gradient_matching(start, labels_of, real, Learning(steps=150), seed=1))


def test_closed_form_brings_the_ridge_regression_to_the_truth():
    real, start = two_classes(), torch.randn(4, 4, generator=keyed("start"))
    learnt = closed_form(start, labels_of, real, Learning(steps=150))
    before, after = (closed_form_loss(ridge_head(points, labels_of(points), 1.0), *real, 0.3).item()
                     for points in (start, learnt))
    assert after < before / 2
    head = ridge_head(learnt, labels_of(learnt), 1.0)
    assert (head.of_means(real.points)[0].argmax(dim=1) == real.targets.argmax(dim=1)).float().mean() > 0.9


@pytest.mark.parametrize("loss", [
    lambda points: closed_form_loss(ridge_head(points, labels_of(points), 0.5), *_double(two_classes(10)), 0.7),
    lambda points: gradient_distance(
        head_gradients(_heads(), *_double(two_classes(10))), head_gradients(_heads(), points, labels_of(points)))])
def test_gradients_pass_through_points_and_their_labels(loss):
    points = torch.randn(3, 4, generator=keyed("points"), dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss, points)


def _double(real: Real) -> Real:
    return Real(*(part.double() for part in real))


def _heads():
    heads = random_heads(3, 2, 4, keyed("heads"))
    return type(heads)(*(part.double() for part in heads))
