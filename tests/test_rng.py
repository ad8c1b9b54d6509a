"""Streams of random numbers keyed by what they are for."""

import torch

from s3prl_dd.rng import keyed


def test_the_whole_key_counts():
    keys = [(3, "noise", 7), (3, "noise", 8), (3, "labels", 7), (4, "noise", 7), (3, "noise")]
    seeds = [keyed(*key).initial_seed() for key in keys]
    assert len(set(seeds)) == len(keys)
    assert seeds == [keyed(*key).initial_seed() for key in keys]


def test_seeds_stay_as_they_are():
    """Generators, pools and sets of samples would all come out otherwise."""
    assert keyed(3, "noise", 7).initial_seed() == 4791810327625490613


def test_the_global_stream_is_left_alone():
    before = torch.get_rng_state()
    torch.randn(3, generator=keyed("mine"))
    assert torch.equal(torch.get_rng_state(), before)
