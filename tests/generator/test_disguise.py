"""The disguise: speech comes nearer to the middle along some directions, and layers that hear it so."""

import pytest
import torch
from support.tiny_generator import tiny_disguise, tiny_generator

from s3prl_dd.generator import LinearHeads

PRIVACY = pytest.mark.parametrize("privacy", [0.3, 1.0])


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@PRIVACY
def test_it_leaves_so_much_of_the_way_along_each_direction(privacy):
    hidden = tiny_disguise(privacy=privacy)
    speech = hidden.middle + some(4, 6, 10)
    before, after = ((values - hidden.middle) @ hidden.away for values in (speech, hidden.of(speech)))
    torch.testing.assert_close(after, (1 - privacy) * before, atol=1e-5, rtol=1e-4)
    beside = hidden.of(speech) - speech
    assert torch.linalg.matrix_rank(beside.flatten(0, 1)) == 2
    torch.testing.assert_close(hidden.of(hidden.middle), hidden.middle)


@PRIVACY
def test_frames_are_disguised_as_their_mean_is(privacy):
    hidden, frames = tiny_disguise(privacy=privacy), some(4, 6, 10)
    torch.testing.assert_close(hidden.of(frames).mean(dim=1), hidden.of(frames.mean(dim=1)))


@PRIVACY
def test_layers_hear_speech_as_if_it_were_disguised(privacy):
    hidden, speech, weight, bias = tiny_disguise(privacy=privacy), some(5, 10), some(3, 10), some(3)
    heard = hidden.heard_by(weight, bias)
    torch.testing.assert_close(speech @ heard[0].T + heard[1], hidden.of(speech) @ weight.T + bias)
    heads = LinearHeads(some(2, 3, 10), some(2, 3))
    torch.testing.assert_close(hidden.heard_by_heads(heads).of_means(speech), heads.of_means(hidden.of(speech)))


@PRIVACY
def test_the_layer_before_is_found_again(privacy):
    """At 1 it is one of many; that one makes the same."""
    hidden, weight, bias = tiny_disguise(privacy=privacy), some(3, 10), some(3)
    heard = hidden.heard_by(weight, bias)
    before = hidden.unheard_by(*heard)
    for one, other in zip(hidden.heard_by(*before), heard, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert torch.allclose(before[0], weight, atol=1e-4) == (privacy < 1)


def test_a_generator_takes_it_along():
    generator = tiny_generator(disguise=tiny_disguise()).to("cpu")
    assert generator.disguise is not None and tiny_generator().disguise is None
