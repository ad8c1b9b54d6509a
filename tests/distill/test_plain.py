"""The benchmark's plain loop, and that the trainer does the same."""

import pytest
import torch

from s3prl_dd.config import load_config
from s3prl_dd.distill.bench import losses_apart, make_trainer
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.plain import PlainLoop
from s3prl_dd.distill.trainer import Trainer

SMALL = ["network.frames=8", "network.channels=8", "network.critic_channels=8", "batch=16", "precision=float32",
         "lambdas.softmax_matching=1"]


def in_float64(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """The same trainer, weights and batches with more digits: Adam multiplies float32's rounding."""
    for module in (trainer.generator, trainer.critic, trainer.average, trainer.pool.heads):
        module.double()
    trainer.heads = trainer.pool.heads.linear()
    trainer.mean, trainer.std = trainer.mean.double(), trainer.std.double()
    for name in ("noise", "mix", "real"):
        draw = getattr(trainer.batches, name)
        monkeypatch.setattr(trainer.batches, name, lambda *key, draw=draw: draw(*key).double())
    return trainer


@pytest.mark.parametrize("name", ["gan_1d", "gan_cnn", "gan_att", "ablation_baseline"])
def test_losses_are_the_plain_loops_over_20_steps(name, monkeypatch):
    """Both go their own way from the same weights; features of 13 dimensions, which the 2-D networks round up."""
    trainer = in_float64(make_trainer(load_config(DistillConfig, name, SMALL), 13, 4, "cpu"), monkeypatch)
    plain = PlainLoop(trainer)
    for network in (plain.generator, plain.critic, plain.average):
        network.double()
    plain.take_state(trainer)
    for _ in range(20):
        ours, expected = trainer.train_step().values(), plain.train_step()
        assert {key: ours[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["gan_1d", "gan_cnn", "gan_att"])
def test_losses_in_the_same_state_in_float32(name):
    trainer = make_trainer(load_config(DistillConfig, name, SMALL), 13, 4, "cpu")
    plain = PlainLoop(trainer)
    for _ in range(4):
        plain.take_state(trainer)
        assert losses_apart(trainer, plain) < 1e-4
        trainer.train_step()


def test_state_is_taken_with_moments_and_running_statistics():
    """Three steps apart, then the same step from the same state."""
    trainer = make_trainer(load_config(DistillConfig, "gan_1d", SMALL), 13, 4, "cpu")
    plain = PlainLoop(trainer)
    for _ in range(3):
        trainer.train_step()
    plain.take_state(trainer)
    before = trainer.generator.state_dict()
    for ours, theirs in zip(before.values(), _floats(plain.generator), strict=True):
        assert torch.equal(ours.flatten(), theirs.flatten())
    ours, expected = trainer.train_step().values(), plain.train_step()
    assert {key: ours[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-5)
    torch.testing.assert_close(trainer.average.start.weight, plain.average.start.weight, rtol=1e-4, atol=1e-5)


def _floats(network: torch.nn.Module) -> list[torch.Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def test_it_stands_apart():
    """No layer of ours is in it."""
    plain = PlainLoop(make_trainer(load_config(DistillConfig, "gan_att", SMALL), 13, 4, "cpu"))
    kinds = {type(module).__module__ for network in (plain.generator, plain.critic) for module in network.modules()}
    assert all(kind.startswith("torch.") or kind.endswith("distill.plain") for kind in kinds)
