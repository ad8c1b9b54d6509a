"""The guard on a network's size."""

import time
from dataclasses import replace

import pytest
import torch
from support.gauss import PARTS, tiny_config, tiny_data, tiny_pool

from s3prl_dd.distill import size
from s3prl_dd.distill.critic import Critic
from s3prl_dd.distill.size import check_size, count_parameters
from s3prl_dd.distill.trainer import Trainer
from s3prl_dd.errors import UserError
from s3prl_dd.generator import NetworkConfig, build_generator


def test_counts_generator_and_critic():
    network = NetworkConfig(architecture="gan_att", frames=8, channels=5, critic_channels=8).sized(3, 20)
    made = build_generator(network), Critic(network)
    assert count_parameters(network) == sum(p.numel() for module in made for p in module.parameters())
    gaussian = NetworkConfig(architecture="gaussian", frames=1).sized(3, 20)
    assert count_parameters(gaussian) == 3 * 20 + 20 * 20


def test_the_papers_networks_pass_and_larger_ones_are_refused(monkeypatch):
    check_size(NetworkConfig(architecture="gan_cnn", frames=64).sized(4, 768))
    network = NetworkConfig(frames=8, channels=4, critic_channels=4).sized(3, 5)
    monkeypatch.setattr(size, "MAX_PARAMETERS", count_parameters(network))
    check_size(network)
    with pytest.raises(UserError, match="parameters, expected"):
        check_size(replace(network, noise=101))


def test_a_trainer_is_refused_before_memory_is_asked_for(tmp_path):
    config, data = tiny_config(network={"channels": 65536, "critic_channels": 65536}), tiny_data()
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"network: [\d,]+ parameters, expected 2,000,000,000 or fewer"):
        Trainer(config, data, tmp_path, PARTS, tiny_pool(data))
    assert time.perf_counter() - started < 20 and torch.get_default_device().type == "cpu"
