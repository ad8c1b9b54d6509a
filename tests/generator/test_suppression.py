"""Speaker suppression: speech comes nearer to the middle along some directions, and layers that hear it so."""

import pytest
import torch
from support.tiny_generator import tiny_generator, tiny_suppression

from s3prl_dd.generator import LinearHeads

PRIVACY = pytest.mark.parametrize("privacy", [0.3, 1.0])


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@PRIVACY
def test_it_leaves_so_much_of_the_way_along_each_direction(privacy):
    suppression = tiny_suppression(privacy=privacy)
    speech = suppression.middle + some(4, 6, 10)
    before, after = ((values - suppression.middle) @ suppression.away for values in (speech, suppression.of(speech)))
    torch.testing.assert_close(after, (1 - privacy) * before, atol=1e-5, rtol=1e-4)
    beside = suppression.of(speech) - speech
    assert torch.linalg.matrix_rank(beside.flatten(0, 1)) == 2
    torch.testing.assert_close(suppression.of(suppression.middle), suppression.middle)


@PRIVACY
def test_frames_are_suppressed_as_their_mean_is(privacy):
    suppression, frames = tiny_suppression(privacy=privacy), some(4, 6, 10)
    torch.testing.assert_close(suppression.of(frames).mean(dim=1), suppression.of(frames.mean(dim=1)))


@PRIVACY
def test_layers_hear_any_speech_suppressed(privacy):
    suppression, speech, weight, bias = tiny_suppression(privacy=privacy), some(5, 10), some(3, 10), some(3)
    heard = suppression.heard_by(weight, bias)
    torch.testing.assert_close(speech @ heard[0].T + heard[1], suppression.of(speech) @ weight.T + bias)
    heads = LinearHeads(some(2, 3, 10), some(2, 3))
    found = suppression.heard_by_heads(heads).of_means(speech)
    torch.testing.assert_close(found, heads.of_means(suppression.of(speech)))


@PRIVACY
def test_the_layer_before_is_found_again(privacy):
    """At 1 it is one of many; that one makes the same."""
    suppression, weight, bias = tiny_suppression(privacy=privacy), some(3, 10), some(3)
    heard = suppression.heard_by(weight, bias)
    before = suppression.unheard_by(*heard)
    for one, other in zip(suppression.heard_by(*before), heard, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert torch.allclose(before[0], weight, atol=1e-4) == (privacy < 1)


def test_a_generator_takes_it_along():
    generator = tiny_generator(suppression=tiny_suppression()).to("cpu")
    assert generator.suppression is not None and tiny_generator().suppression is None
