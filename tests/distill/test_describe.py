"""What a configuration is on paper, against saved files and counts by hand."""

import dataclasses

import pytest
import torch
from support.gauss import PARTS

from s3prl_dd.config import load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.describe import describe, print_description
from s3prl_dd.generator import Calibration, Generator, Header, build_generator


@pytest.mark.parametrize("name, size", [("gan_cnn", 0.10e9), ("gan_att", 0.06e9)])
def test_full_size_of_the_paper(name, size):
    told = describe(load_config(DistillConfig, name), 768)
    assert abs(told.file_bytes - size) < 0.1 * size
    assert told.architecture == name and told.dim == 768 and told.flops_per_sample > 1e9
    assert told.parameters == pytest.approx(told.file_bytes / 4, rel=0.001)


@pytest.mark.parametrize("name, half, points", [("gan_att", False, 0), ("gan_1d", False, 0), ("gan_1d", True, 100)])
def test_file_bytes_is_the_size_of_a_saved_file(name, half, points, tmp_path):
    config = load_config(DistillConfig, name, [f"teacher={points > 0}", f"points={points}", f"half_file={half}",
                                                "network.channels=32"])
    dim, classes = 512, 4
    network = config.network.sized(classes, dim)
    features = dataclasses.replace(PARTS.features, dim=dim)
    header = Header(network=network, labels={str(label): label for label in range(classes)}, class_counts=[1] * classes,
                    lengths=[list(range(101))] * classes, features=features, corpus=PARTS.corpus)
    calibration = None
    if config.calibrate:
        calibration = Calibration(torch.eye(dim), torch.zeros(classes, dim), torch.zeros(classes, dim))
    learnt = torch.zeros(classes, points, dim) if points else None
    Generator(build_generator(network), torch.zeros(dim), torch.ones(dim), torch.zeros(classes, dim), header,
              calibration=calibration, points=learnt).save(tmp_path / "file", half)
    size = (tmp_path / "file").stat().st_size
    assert describe(config, dim, classes).file_bytes == pytest.approx(size, rel=0.02)


def test_flops_by_hand():
    """Two a multiply and add: the linear layers of GAN-1D, T' positions each."""
    config = load_config(DistillConfig, "gan_1d", ["network.noise=6", "network.channels=10", "network.frames=8",
                                                    "network.utterance_branch=false", "network.critic_channels=12"])
    told = describe(config, dim=20, classes=4)
    taps = 3
    layers = [(6 + 4) * (2 * 10), 2 * taps * 10 * 10, 2 * taps * 10 * 20, 4 * taps * 10 * 20, 8 * taps * 10 * 10,
              8 * 10 * 20]
    assert told.flops_per_sample == 2 * sum(layers)
    critic = [8 * taps * 20 * 12, 4 * taps * 12 * 12, 2 * taps * 12 * 12, 2 * taps * 12 * 12, 24 * 1, 24 * 4]
    assert told.critic_flops_per_sample == 2 * sum(critic)
    assert told.layers[0].shape == [20] and told.layers[0].parameters == (6 + 4) * 20 + 20
    assert told.layers[-1].shape == [8, 20]


def test_layers_hold_every_parameter_once():
    told = describe(load_config(DistillConfig, "gan_1d"), 39)
    assert sum(layer.parameters for layer in told.layers) == told.parameters
    assert [layer.name for layer in told.layers][:3] == ["start", "body.0.linear", "body.1"]


def test_printed(capsys):
    print_description(describe(load_config(DistillConfig, "gan_att_small"), 39))
    text = capsys.readouterr().out
    assert "gan_att: [128 noise ; label] -> [16, 39]" in text and text.count("TimeAttention") == 1
    assert "parameters" in text and "GFLOP a sample" in text and "critic:" in text


def test_the_gaussian_has_as_much_noise_as_dimensions_and_no_critic(capsys):
    told = describe(load_config(DistillConfig, "gaussian"), 20)
    assert (told.noise, told.frames, told.parameters, told.critic_parameters) == (20, 1, 4 * 20 + 20 * 20, 0)
    print_description(told)
    assert "critic" not in capsys.readouterr().out


def test_the_configuration_is_left_as_it_was():
    config = load_config(DistillConfig, "gaussian")
    before = dataclasses.asdict(config)
    describe(config, 20, 3)
    assert dataclasses.asdict(config) == before
