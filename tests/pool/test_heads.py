"""Heads against S3PRL's own modules, and stacks against single heads."""

import math

import pytest
import torch

from s3prl_dd.pool.heads import SUPERB_KEYS, Heads, pool_mean


def test_heads_are_s3prl_heads(s3prl_head):
    """S3PRL's state dicts as they are, on frames of different lengths."""
    modules = [s3prl_head(seed=seed) for seed in range(3)]
    assert set(SUPERB_KEYS) == set(modules[0].state_dict())
    heads = Heads({key: torch.stack([module.state_dict()[key] for module in modules]) for key in SUPERB_KEYS})
    lengths = torch.tensor([7, 4, 1, 6])
    mask = torch.arange(7) < lengths[:, None]
    frames = torch.randn(4, 7, 6) * mask[..., None]
    for index, module in enumerate(modules):
        expected, _ = module["model"](module["projector"](frames), lengths)
        torch.testing.assert_close(heads(frames, lengths)[index], expected)
        full, _ = module["model"](module["projector"](frames), torch.full((4,), 7))
        torch.testing.assert_close(heads(frames)[index], full)


def test_heads_are_linear_in_the_utterance_mean():
    heads, frames = Heads.create(range(3), 5, 4), torch.randn(6, 9, 5)
    weight, bias = heads.linear()
    assert weight.shape == (3, 4, 5) and bias.shape == (3, 4)
    expected = torch.stack([frames.mean(dim=1) @ weight[m].T + bias[m] for m in range(3)])
    torch.testing.assert_close(heads(frames), expected)


def test_a_batch_for_each_head():
    heads, means = Heads.create(range(3), 5, 4), torch.randn(3, 6, 5)
    logits = heads.of_means(means)
    for m in range(3):
        torch.testing.assert_close(logits[m], heads.of_means(means[m])[m])


def test_fresh_heads_have_torch_bounds_and_their_own_seeds():
    heads = Heads.create([3, 7, 3], 400, 4)
    assert heads.dim == 400 and len(heads) == 3
    first = heads.get(SUPERB_KEYS[0]).detach()
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    assert first[0].abs().max() <= 1 / 20 and first[0].std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    state = torch.get_rng_state()
    Heads.create(iter(["untrained/0"]), 5, 4)
    assert torch.equal(state, torch.get_rng_state())


def test_pick_and_state_are_copies():
    heads = Heads.create(range(4), 5, 3)
    picked = heads.pick(torch.tensor([2, 0, 2]))
    assert len(picked) == 3 and len(heads) == 4
    assert torch.equal(picked(torch.ones(1, 1, 5)), heads(torch.ones(1, 1, 5))[[2, 0, 2]])
    heads.state()["projector.bias"].zero_()
    assert heads.get("projector.bias").abs().sum() > 0


def test_pool_mean():
    frames = torch.randn(2, 4, 3)
    torch.testing.assert_close(pool_mean(frames)[1], frames[1].mean(dim=0))
    frames[0, 2:] = 0
    torch.testing.assert_close(pool_mean(frames, torch.tensor([2, 4]))[0], frames[0, :2].mean(dim=0))
