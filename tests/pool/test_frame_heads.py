"""Heads that hear frames against S3PRL's own modules."""

import math

import pytest
import torch
import torch.nn as nn

from s3prl_dd.arms import HEADS
from s3prl_dd.pool.frame_heads import KINDS, AttentiveHeads, CnnHeads
from s3prl_dd.pool.heads import Heads
from s3prl_dd.recipe.settings import HeadName


def s3prl_modules(kind: str, dim: int = 6, classes: int = 4, seed: int = 0) -> nn.ModuleDict:
    """Projector and model as S3PRL's emotion expert builds them."""
    from s3prl.downstream.emotion.model import DeepModel
    from s3prl.downstream.model import UtteranceLevel

    torch.manual_seed(seed)
    if kind == "cnn":
        model: nn.Module = DeepModel(256, classes, "CNNSelfAttention", 5, hidden_dim=80, kernel_size=5, padding=2,
                                     dropout=0.4)
    else:
        pooling = "AttentivePooling" if kind == "attentive" else "MeanPooling"
        model = UtteranceLevel(256, classes, pooling=pooling)
    return nn.ModuleDict({"projector": nn.Linear(dim, 256), "model": model})


def stack_of(modules: list[nn.ModuleDict], kind: str) -> Heads | AttentiveHeads | CnnHeads:
    states = [module.state_dict() for module in modules]
    return KINDS[kind]({key: torch.stack([state[key] for state in states]) for key in KINDS[kind].keys()})


def test_kinds_are_those_that_runs_train():
    assert set(KINDS) == set(HEADS) == set(HeadName.__args__)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_s3prl_heads(kind):
    """S3PRL's state dicts as they are, on utterances of different lengths, padded as its expert pads them."""
    modules = [s3prl_modules(kind, seed=seed).eval() for seed in range(3)]
    assert set(KINDS[kind].keys()) == set(modules[0].state_dict())
    heads, lengths = stack_of(modules, kind), torch.tensor([23, 11, 1, 17])
    frames = 3 * torch.randn(4, 23, 6) * (torch.arange(23) < lengths[:, None])[..., None]
    assert heads(frames, lengths).shape == (3, 4, 4)
    for index, module in enumerate(modules):
        expected, _ = module["model"](module["projector"](frames), lengths)
        torch.testing.assert_close(heads(frames, lengths)[index], expected, atol=2e-5, rtol=1e-4)
        full, _ = module["model"](module["projector"](frames), torch.full((4,), 23))
        torch.testing.assert_close(heads(frames)[index], full, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_for_each_head(kind):
    heads = KINDS[kind].create(range(3), 6, 4)
    frames, lengths = torch.randn(3, 2, 12, 6), torch.tensor([[12, 5], [12, 12], [3, 12]])
    frames = frames * (torch.arange(12) < lengths[..., None])[..., None]
    logits = heads(frames, lengths)
    for m in range(3):
        torch.testing.assert_close(logits[m], heads(frames[m], lengths[m])[m])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_s3prls(kind):
    module = s3prl_modules(kind).eval()
    heads, lengths = stack_of([module], kind), torch.tensor([9, 14])
    frames = torch.randn(2, 14, 6) * (torch.arange(14) < lengths[:, None])[..., None]
    heads(frames, lengths).square().sum().backward()
    module["model"](module["projector"](frames), lengths)[0].square().sum().backward()
    for key, value in module.named_parameters():
        torch.testing.assert_close(heads.get(key).grad[0], value.grad, atol=1e-4, rtol=1e-3)


def test_dropout_is_of_each_heads_own_noise():
    heads, frames = CnnHeads.create([0, 0], 6, 4), torch.randn(5, 20, 6)

    def drop(*seeds):
        return heads(frames, dropout=[torch.Generator().manual_seed(seed) for seed in seeds])

    same, other = drop(1, 1), drop(1, 2)
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(other[0], same[0])
    assert not torch.allclose(other[1], same[1]) and not torch.allclose(heads(frames)[0], same[0])


def test_fresh_heads_have_torchs_bounds():
    heads = CnnHeads.create([3], 40, 4)
    for name, weight in CnnHeads.layers(40, 4).items():
        bound = 1 / math.sqrt(math.prod(weight[1:]))
        for tensor in heads.layer(name):
            assert 0.8 * bound < tensor.abs().max() <= bound or tensor.numel() < 10
