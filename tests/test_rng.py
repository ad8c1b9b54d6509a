"""Draws keyed by what they are for."""

import torch

from s3prl_dd.rng import evenly, keyed


def draw(*key):
    return torch.rand(4, generator=keyed(*key))


def test_the_whole_key_counts():
    assert torch.equal(draw(0, "noise", 5), draw(0, "noise", 5))
    assert not torch.equal(draw(0, "noise", 5), draw(0, "noise", 6))
    assert not torch.equal(draw(0, "noise", 5), draw(0, "lengths", 5))


def test_seeds_stay_over_versions():
    """Generator files are sampled by these: a change of the key's digest would change every set."""
    assert keyed(0, "noise", 1, 2).initial_seed() == 674851391966508135


def test_evenly():
    assert evenly(10, 4) == [0, 2, 5, 7] and evenly(3, 5) == [0, 1, 2] and evenly(0, 5) == []


def test_the_global_stream_is_left_alone():
    before = torch.get_rng_state()
    draw("anything")
    assert torch.equal(before, torch.get_rng_state())
