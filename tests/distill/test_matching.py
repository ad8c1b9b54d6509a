"""The matching losses against autograd and closed forms."""

import pytest
import torch
import torch.nn.functional as F

from s3prl_dd.distill.matching import (
    closed_form_losses,
    gradient_distance,
    head_gradients,
    random_heads,
    ridge_head,
)
from s3prl_dd.generator import LinearHeads
from s3prl_dd.rng import keyed


def points_and_targets(number: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.randn(number, 5, generator=keyed("points"), dtype=torch.double)
    return points, torch.randn(number, 3, generator=keyed("targets"), dtype=torch.double).softmax(dim=1)


def heads_of(number: int) -> LinearHeads:
    return LinearHeads(*(part.double() for part in random_heads(number, 3, 5, keyed("heads"))))


def test_gradients_are_autograds():
    points, targets = points_and_targets()
    heads = heads_of(2)
    for number, found in enumerate(head_gradients(heads, points, targets)):
        weight, bias = (part[number].clone().requires_grad_() for part in heads)
        F.cross_entropy(points @ weight.T + bias, targets).backward()
        assert torch.allclose(found, torch.cat([weight.grad, bias.grad[:, None]], dim=1))


def test_distance_is_of_directions():
    gradients = head_gradients(heads_of(4), *points_and_targets())
    assert gradient_distance(gradients, 3 * gradients).item() == pytest.approx(0)
    assert gradient_distance(gradients, -gradients).item() == pytest.approx(2)


def test_a_sets_own_copies_are_at_no_distance():
    points, targets = points_and_targets()
    twice = points.repeat(2, 1), targets.repeat(2, 1)
    heads = heads_of(4)
    assert gradient_distance(head_gradients(heads, points, targets), head_gradients(heads, *twice)).abs() < 1e-12


def test_logits_of_random_heads_spread_as_asked():
    logits = random_heads(200, 4, 64, keyed("many"), spread=3.0).of_means(torch.randn(50, 64, generator=keyed("few")))
    assert logits.std().item() == pytest.approx(3.0, rel=0.05)


def test_ridge_head_solves_the_normal_equations():
    points, targets = points_and_targets()
    (weight,), (bias,) = ridge_head(points, targets, ridge=0.1)
    centred, wanted = points - points.mean(dim=0), targets - targets.mean(dim=0)
    normal = centred.T @ centred + len(points) * 0.1 * torch.eye(5)
    assert torch.allclose(weight.T, torch.linalg.solve(normal, centred.T @ wanted))
    assert torch.allclose(points.mean(dim=0) @ weight.T + bias, targets.mean(dim=0))


def test_closed_form_loss_is_cross_entropy():
    points, targets = points_and_targets()
    head = heads_of(1)
    wanted = F.cross_entropy(head.of_means(points)[0] / 0.5, targets)
    assert torch.allclose(closed_form_losses(head, points, targets, temperature=0.5).mean(), wanted)
