"""The benchmark's arithmetic, on the smallest networks."""

import dataclasses
import math

import pytest
import torch

from s3prl_dd.config import load_config
from s3prl_dd.distill import bench
from s3prl_dd.distill.bench import bench_step, losses_apart, make_trainer, step_table
from s3prl_dd.distill.config import DistillConfig, Lambdas
from s3prl_dd.distill.fast import norms
from s3prl_dd.distill.plain import KNOWN_TERMS, PlainLoop, unknown_to_plain
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


@pytest.mark.parametrize("name, overrides, unknown", [
    ("gan_1d", ["lambdas.modulation=1"], "lambdas.modulation=1"),
    ("gan_1d", ["lambdas.mmd=1"], "lambdas.mmd=1"),
    ("gan_1d", ["lambdas.critic_class_fake=0.5"], "lambdas.critic_class_fake=0.5"),
    ("gan_1d", ["penalty_every=4"], "penalty_every=4"),
    ("gan_1d_frames", [],
     "lambdas.frame_covariance=1, lambdas.modulation=0.3, softmax_kinds=superb,attentive,cnn")])
def test_unequal_work_is_refused_before_any(name, overrides, unknown, monkeypatch):
    """All configurations are looked at before the first of them is measured."""
    monkeypatch.setattr(bench, "_both_steps", lambda *_: pytest.fail("work was started"))
    configs = {"small": load_config(DistillConfig, "gan_1d", SMALL), name: load_config(DistillConfig, name, overrides)}
    with pytest.raises(UserError, match=f"{name}: the plain loop.* does not compute {unknown}: "):
        bench_step(configs, 6)


@pytest.mark.parametrize("term", [item.name for item in dataclasses.fields(Lambdas)])
def test_the_plain_loop_computes_the_terms_that_it_knows(term):
    config = load_config(DistillConfig, "gan_1d", [*SMALL, *(f"lambdas.{name}=0" for name in KNOWN_TERMS)])
    config = dataclasses.replace(config, lambdas=Lambdas(**{term: 1}))
    plain = PlainLoop(make_trainer(config, 6, 3, "cpu"))
    assert (term in plain.train_step()) == (unknown_to_plain(config) == [])


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
