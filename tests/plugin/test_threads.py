"""An upstream that several threads call at once gives each what it gives when it is called alone."""

import numpy as np
import pytest
import torch

from s3prl_dd.corpora.ahead import ahead
from s3prl_dd.devices import side_by_side
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.plugin.encoder import Encoder
from s3prl_dd.plugin.threads import made_thread_safe


def waves():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size).astype(np.float32) for size in rng.integers(4000, 16000, size=40)]


def test_states_of_calls_at_once_are_not_mixed(hubert_file):
    encoder = Encoder(FeatureSpec("hubert_local", str(hubert_file)))
    assert encoder.thread_safe
    with side_by_side():
        alone = [encoder.states([wave])[0] for wave in waves()]
        together = list(ahead(lambda wave: encoder.states([wave])[0], waves(), workers=4, limit=8))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("upstream", ["fbank", "mfcc"])
def test_of_other_upstreams_nothing_is_known(upstream):
    assert not Encoder(FeatureSpec(upstream)).thread_safe


def test_a_module_of_the_users_is_left_alone():
    assert not made_thread_safe(torch.nn.Linear(1, 1))
