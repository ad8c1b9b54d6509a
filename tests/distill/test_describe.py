"""`s3prl-dd describe`, and the shipped configurations."""

import json

import pytest
import torch

from s3prl_dd import cli
from s3prl_dd.config import CONFIGS, load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.describe import describe
from s3prl_dd.generator import Generator
from s3prl_dd.generator.networks import build_generator

DISTILLER = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem.startswith(("gan_", "ablation_")))


@pytest.mark.parametrize("name, size", [("gan_cnn", 0.10e9), ("gan_att", 0.06e9)])
def test_full_size_of_the_paper(name, size, capsys):
    assert cli.main(["describe", name, "--dim", "768", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert abs(told["file_bytes"] - size) < 0.1 * size
    assert told["architecture"] == name and told["dim"] == 768 and told["flops_per_sample"] > 1e9
    assert told["parameters"] == pytest.approx(told["file_bytes"] / 4, rel=0.001)


@pytest.mark.parametrize("name, half", [("gan_att", False), ("gan_1d", False), ("gan_1d", True)])
def test_file_bytes_is_the_size_of_a_saved_file(name, half, tmp_path):
    config = load_config(DistillConfig, name, ["teacher=false", f"half_file={half}"])
    told = describe(config, 768)
    header = {"network": vars(config.network), "labels": {}, "class_counts": [1] * 4, "lengths": [list(range(101))] * 4,
              "features": {}, "corpus": {}}
    calibration = (torch.eye(768), torch.zeros(4, 768), torch.zeros(4, 768)) if config.calibrate else None
    Generator(build_generator(config.network), torch.zeros(768), torch.ones(768), torch.zeros(4, 768), header,
              calibration=calibration).save(tmp_path / "file", half)
    assert told["file_bytes"] == pytest.approx((tmp_path / "file").stat().st_size, rel=0.01)


def test_flops_by_hand():
    """Two a multiply and add: the linear layers of GAN-1D, T' positions each."""
    config = load_config(DistillConfig, "gan_1d", ["network.noise=6", "network.channels=10", "network.frames=8",
                                                    "network.utterance_branch=false", "network.critic_channels=12"])
    told = describe(config, dim=20, classes=4)
    taps = 3
    layers = [(6 + 4) * (2 * 10), 2 * taps * 10 * 10, 2 * taps * 10 * 20, 4 * taps * 10 * 20, 8 * taps * 10 * 10, 8 * 10 * 20]
    assert told["flops_per_sample"] == 2 * sum(layers)
    critic = [8 * taps * 20 * 12, 4 * taps * 12 * 12, 2 * taps * 12 * 12, 2 * taps * 12 * 12, 24 * 1, 24 * 4]
    assert told["critic_flops_per_sample"] == 2 * sum(critic)
    assert told["layers"][-1]["shape"] == [8, 20]


def test_printed(capsys):
    assert cli.main(["describe", "gan_att_small", "--dim", "39"]) == 0
    text = capsys.readouterr().out
    assert "gan_att: [128 noise ; label] -> [16, 39]" in text and text.count("TimeAttention") == 1
    assert "parameters" in text and "GFLOP a sample" in text


@pytest.mark.parametrize("name", DISTILLER)
def test_shipped_configurations_load(name):
    config = load_config(DistillConfig, name)
    assert config.weight("gradient_penalty") == 10
    assert describe(load_config(DistillConfig, name, ["network.channels=4", "network.critic_channels=4"]), 20)["parameters"]


def test_configurations_of_the_paper():
    for name in ("gan_cnn", "gan_att", "gan_cnn_small", "gan_att_small"):
        config = load_config(DistillConfig, name)
        assert config.network.architecture == name[:7]
        assert (config.feature_matching, config.softmax_reduction, config.softmax_pairing) == ("sample", "sample", "label")
        assert not config.network.utterance_branch and not config.teacher and not config.calibrate and config.betas == [0.0, 0.9]
        assert not config.weight("mmd")
        assert all(config.weight(term) > 0 for term in ("critic_class", "feature_matching", "generator_class",
                                                        "softmax_matching", "diversity"))
    assert load_config(DistillConfig, "gan_cnn").network.channels == 256
    assert load_config(DistillConfig, "gan_att").network.channels == 128
    assert "gan_cnn_small" in DISTILLER


def test_ablations_differ_from_their_base_in_one_or_two_weights():
    base = load_config(DistillConfig, "ablation_both")
    assert not base.calibrate
    for name, off in (("ablation_baseline", {"softmax_matching", "diversity"}), ("ablation_sml", {"diversity"}),
                      ("ablation_div", {"softmax_matching"})):
        config = load_config(DistillConfig, name)
        assert {term for term in base.lambdas if config.lambdas[term] != base.lambdas[term]} == off
        assert all(config.weight(term) == 0 for term in off)
        config.lambdas = base.lambdas
        assert config == base


def test_the_gaussian_has_as_much_noise_as_dimensions_and_no_critic(capsys):
    from s3prl_dd import cli

    assert cli.main(["describe", "gaussian", "--dim", "20"]) == 0
    text = capsys.readouterr().out
    assert "[20 noise ; label] -> [1, 20]" in text and f"{4 * 20 + 20 * 20:,} parameters" in text and "critic" not in text
