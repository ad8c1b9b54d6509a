"""The first layer of heads on samples with speaker suppression, and its checkpoints, which are a plain layer's."""

import pytest
import torch
from support.tiny_generator import tiny_suppression
from torch import nn

from s3prl_dd.plugin.hearing import Hearing


def made(privacy=1.0, seed=0):
    torch.manual_seed(seed)
    return Hearing(nn.Linear(10, 4), tiny_suppression(privacy=privacy))


@pytest.mark.parametrize("privacy", [0.4, 1.0])
def test_its_state_is_a_plain_layer_that_gives_the_same(privacy):
    layer, frames = made(privacy), torch.randn(2, 5, 10)
    expected = layer(frames)
    torch.testing.assert_close(expected, nn.functional.linear(layer.suppression.of(frames), layer.weight, layer.bias))
    state = layer.state_dict()
    assert set(state) == {"weight", "bias"} and not any(tensor.requires_grad for tensor in state.values())
    plain = nn.Linear(10, 4)
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(frames), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("privacy", [0.4, 1.0])
def test_it_goes_on_from_its_state_as_if_nothing_had_been(privacy):
    """Also within a larger module, as S3PRL saves and loads it, and to the same gradients of what it says."""
    one, other = nn.Sequential(made(privacy)), nn.Sequential(made(privacy, seed=1))
    state = one.state_dict()
    other.load_state_dict(state)
    frames = torch.randn(3, 10)
    torch.testing.assert_close(other(frames), one(frames), atol=1e-5, rtol=1e-4)
    for module in (one, other):
        module(frames).square().sum().backward()
    torch.testing.assert_close(other[0].weight.grad, one[0].weight.grad, atol=1e-4, rtol=1e-3)
    assert torch.equal(state["0.weight"], one.state_dict()["0.weight"]), "loading leaves what was given as it is"


def test_directions_in_which_samples_do_not_vary_are_never_heard():
    layer = made()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(layer.suppression.of(torch.randn(8, 10))).square().sum().backward()
        optimizer.step()
    speech = torch.randn(6, 10)
    there = speech + torch.randn(6, 2) @ layer.suppression.along
    torch.testing.assert_close(layer(there), layer(speech), atol=1e-4, rtol=1e-3)
