"""Balanced batches, keyed by seed and step, and each rank's share of them."""

import pytest
import torch
from support.gauss import tiny_data

from s3prl_dd.distill.batches import Batches, balanced_size
from s3prl_dd.distill.distributed import Ranks
from s3prl_dd.errors import UserError

CPU = torch.device("cpu")


ALONE = Ranks()


def batches(ranks: Ranks = ALONE, seed: int = 0) -> Batches:
    return Batches(tiny_data(), 24, 6, seed, ranks, CPU)


def test_as_many_of_each_class():
    assert [balanced_size(size, 3, 1) for size in (6, 8, 24, 25)] == [6, 6, 24, 24]
    assert balanced_size(25, 3, 2) == 24 and balanced_size(23, 3, 2) == 18
    told = r"batch 11: too small .* 3 classes on each of 2 rank\(s\). Set it to 12 or more"
    with pytest.raises(UserError, match=told):
        balanced_size(11, 3, 2)
    assert torch.bincount(batches().labels).tolist() == [8, 8, 8]


@pytest.mark.parametrize("what", ["noise", "mix", "real"])
def test_each_key_is_a_draw_of_its_own(what):
    draw = getattr(batches(), what)
    assert torch.equal(draw("noise", 4), getattr(batches(), what)("noise", 4))
    others = [draw("noise", 5), draw("critic-noise", 4), draw("noise", 4, 0)]
    others.append(getattr(batches(seed=1), what)("noise", 4))
    assert not any(torch.equal(other, draw("noise", 4)) for other in others)


@pytest.mark.parametrize("what", ["noise", "mix", "real"])
def test_ranks_share_the_batch_of_one(what):
    parts = [getattr(batches(Ranks(rank, 2)), what)("x", 1) for rank in range(2)]
    assert torch.equal(torch.cat(parts), getattr(batches(), what)("x", 1))
    assert torch.equal(torch.cat([batches(Ranks(rank, 2)).labels for rank in range(2)]), batches().labels)


def test_noise_is_normal_and_mix_uniform():
    many = torch.cat([batches().noise("noise", step) for step in range(50)])
    assert many.shape == (1200, 6) and abs(many.mean()) < 0.05 and abs(many.std() - 1) < 0.05
    mix = torch.cat([batches().mix("mix", step) for step in range(50)])
    assert 0 <= mix.min() and mix.max() < 1 and abs(mix.mean() - 0.5) < 0.05
