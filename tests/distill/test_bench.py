"""The benchmark's arithmetic, on the smallest networks."""

import math

import pytest
import torch

from s3prl_dd.config import load_config
from s3prl_dd.distill import bench, norms
from s3prl_dd.distill.bench import bench_step, losses_apart, make_trainer, step_table
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.plain import PlainLoop
from s3prl_dd.errors import UserError

BACK = norms._NormaliseBack.apply
SMALL = ["network.frames=4", "network.channels=4", "network.critic_channels=4", "batch=8"]


def test_refused_in_one_line():
    small = load_config(DistillConfig, "gan_1d", SMALL)
    for configs, changes, expected in (
            ({"gaussian": load_config(DistillConfig, "gaussian")}, {}, "gaussian: nothing is trained"),
            ({"small": small}, {"rounds": 0}, "rounds 0: expected 1 or more"),
            ({"small": small}, {"dim": -3}, "dim"),
            ({"small": small}, {"classes": 1}, "classes")):
        with pytest.raises(UserError, match=expected):
            bench_step(configs, **{"dim": 6, **changes})


def test_no_gpu_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device cuda: torch finds no GPU"):
        bench_step({"small": load_config(DistillConfig, "gan_1d", SMALL)}, 6, device="cuda")


def of_detached_maps(maps: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """The norm's backward pass, whose own derivatives do not reach the maps."""
    return BACK(maps, others[0].detach(), *others[1:])


def test_gradients_are_compared_and_not_losses_alone(monkeypatch):
    """A penalty that has lost second derivatives has the plain loop's losses."""
    trainer = make_trainer(load_config(DistillConfig, "gan_1d", SMALL), 6, 3, "cpu")
    plain = PlainLoop(trainer)
    assert losses_apart(trainer, plain) < 1e-4
    monkeypatch.setattr(norms._NormaliseBack, "apply", of_detached_maps)
    assert losses_apart(trainer, plain) > 1e-2
    monkeypatch.setattr(bench, "_gradients_apart", lambda *ignored: 0.0)
    assert losses_apart(trainer, plain) < 1e-4


def test_what_is_not_a_number_is_not_near():
    assert math.isnan(bench._largest(0.0, math.nan, 1.0)) and bench._largest(0.5, 0.25) == 0.5


@pytest.mark.slow
def test_step_beside_the_plain_loop():
    rows = bench_step({"small": load_config(DistillConfig, "gan_1d", SMALL)}, dim=6, rounds=2)
    plain, ours = rows
    assert plain.name == "small, plain loop" and ours.name == "small" and plain.ratio == 1
    assert ours.apart < 1e-4 and ours.ratio > 0 and ours.seconds > 0 and ours.peak > 50e6
    assert ours.hours == pytest.approx(ours.seconds * 800 / 3600)
    assert "small, plain loop" in step_table(rows, 6, "cpu")
    with pytest.raises(UserError, match="rounds 0"):
        bench_step({}, 6, rounds=0)
