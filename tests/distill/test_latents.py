"""Latents that are learnt through a generator."""

import dataclasses

import pytest
import torch
from support.gauss import PARTS, tiny_config, tiny_data, tiny_pool, tiny_trainer

from s3prl_dd.distill import latents
from s3prl_dd.distill.latents import beginnings, learn_latents, means_of, teaching_loss
from s3prl_dd.generator import Generator
from s3prl_dd.rivals.gaussian import fit_gaussian


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture(scope="module")
def generator(data):
    """A Gaussian of each class: one that draws well without training."""
    return fit_gaussian(tiny_config(network={"architecture": "gaussian"}), data, PARTS, tiny_pool(data))


def test_beginnings():
    assert beginnings(1) == [1] and beginnings(2) == [1, 2] and beginnings(6) == [1, 2, 3, 6]
    assert beginnings(50) == [1, 2, 3, 6, 12, 24, 48, 50]


def test_means_are_those_that_the_generator_draws(tmp_path, data):
    generator = tiny_trainer(tmp_path, data, calibrate=True).current()
    generator.latents = torch.randn(3, 2, 6)
    drawn = generator.sample(2).features.mean(dim=1)
    found = means_of(generator, generator.latents, torch.arange(3)).flatten(0, 1)
    torch.testing.assert_close(found, drawn, rtol=1e-4, atol=1e-4)


def test_they_lie_in_the_noises_shell_and_are_the_seeds(generator, data):
    real = data.means, data.labels
    first, again, other = (learn_latents(generator, real, 3, seed, progress=False) for seed in (0, 0, 1))
    assert first.shape == (3, 3, 10) and torch.equal(first, again) and not torch.equal(first, other)
    torch.testing.assert_close(first.norm(dim=-1), torch.full((3, 3), 10**0.5))
    assert torch.pdist(first.flatten(0, 1)).min() > 0.1


def test_each_beginning_teaches_better_than_what_was_drawn(generator, data, monkeypatch):
    real, labels = latents._real(generator, (data.means, data.labels)), torch.arange(3)
    learnt = learn_latents(generator, (data.means, data.labels), 3, 0, progress=False)
    monkeypatch.setattr(latents, "STEPS", 0)
    start = learn_latents(generator, (data.means, data.labels), 3, 0, progress=False)
    for size in (1, 2, 3):
        before, after = (teaching_loss(generator, means_of(generator, noise[:, :size], labels), labels, real, 0.01)
                         for noise in (start, learnt))
        assert after < before


def test_a_longer_list_begins_as_a_shorter_one(generator, data):
    three, six = (learn_latents(generator, (data.means, data.labels), number, 0, progress=False) for number in (3, 6))
    torch.testing.assert_close(six[:, :3], three)


def test_without_a_teacher_the_classes_are_learnt(generator, data):
    alone = Generator(generator.network, generator.mean, generator.std, generator.class_means, generator.header)
    found = learn_latents(alone, (data.means, data.labels), 2, 0, progress=False)
    assert found.shape == (3, 2, 10) and found.isfinite().all()


def test_the_trainer_learns_them_once_for_the_best_generator(tmp_path, data, monkeypatch):
    monkeypatch.setattr(latents, "STEPS", 3)
    plain = tiny_trainer(tmp_path / "plain", data, eval_every=12).train(progress=False)
    trainer = tiny_trainer(tmp_path / "learnt", data, latents=4, eval_every=12)
    generator = trainer.train(progress=False)
    assert plain.latents is None and generator.latents.shape == (3, 4, 6)
    weights = zip(plain.network.state_dict().values(), generator.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    assert generator.header.metrics == dataclasses.asdict(generator.header)["metrics"] != {}
    expected = learn_latents(plain, (data.means, data.labels), 4, trainer.config.seed, progress=False)
    assert torch.equal(generator.latents, expected)
    before = (tmp_path / "learnt/generator.safetensors").read_bytes()
    tiny_trainer(tmp_path / "learnt", data, latents=4, eval_every=12).train(progress=False)  # nothing is left to do
    assert (tmp_path / "learnt/generator.safetensors").read_bytes() == before


def test_killed_while_they_are_learnt(tmp_path, data, monkeypatch):
    monkeypatch.setattr(latents, "STEPS", 3)
    whole = tiny_trainer(tmp_path / "whole", data, latents=2, eval_every=12).train(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("s3prl_dd.distill.trainer.learn_latents", _killed)
        tiny_trainer(tmp_path / "killed", data, latents=2, eval_every=12).train(progress=False)
    again = tiny_trainer(tmp_path / "killed", data, latents=2, eval_every=12).train(progress=False)
    assert torch.equal(again.latents, whole.latents)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
