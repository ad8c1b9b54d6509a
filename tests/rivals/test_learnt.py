"""Points that are learnt: they do what their loss says, by Adam, from where they start."""

import torch
from support.two_classes import labels_of, two_classes

from s3prl_dd.distill.matching import gradient_distance, head_gradients, random_heads
from s3prl_dd.rivals.learnt import Matching, gradient_matching
from s3prl_dd.rng import keyed


def test_gradient_matching_brings_the_gradients_of_new_heads_together():
    real, start = two_classes(), torch.randn(4, 4, generator=keyed("start"))
    learnt = gradient_matching(start, labels_of, real, Matching(steps=150), seed=0)
    heads = random_heads(50, 2, 4, keyed("others"))
    wanted = head_gradients(heads, *real[:2])
    before, after = (gradient_distance(wanted, head_gradients(heads, points, labels_of(points))).item()
                     for points in (start, learnt))
    assert after < 0.5 * before
    assert not torch.equal(learnt, gradient_matching(start, labels_of, real, Matching(steps=150), seed=1))
