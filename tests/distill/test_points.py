"""Learnt points: they do what their loss says, for each beginning of the list, by Adam, from where samples lie."""

import dataclasses

import pytest
import torch
from support.gauss import tiny_data, tiny_pool, tiny_trainer
from support.two_classes import labels_of, two_classes

from s3prl_dd.distill import points as module
from s3prl_dd.distill.matching import (
    closed_form_losses,
    gradient_distance,
    head_gradients,
    random_heads,
    ridge_head,
    tilted_mean,
)
from s3prl_dd.distill.points import (
    Descent,
    Learning,
    Real,
    beginnings,
    closed_form,
    descend,
    learn_points,
    mistakes,
    units_of_adam,
)
from s3prl_dd.generator import Generator
from s3prl_dd.rng import keyed


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(module, "FILE_LEARNING", Learning(steps=40, tilt=3.0))


def test_adam_at_a_rate_that_falls_to_nothing():
    start = torch.tensor([[3.0, -2.0]])
    found = descend(start, lambda points, step: (points - 1).square().sum(), Descent(steps=400, lr=0.05))
    torch.testing.assert_close(found, torch.ones(1, 2), atol=0.01, rtol=0)
    steps = []
    descend(start, lambda points, step: steps.append(points.detach().clone()) or points.sum(), Descent(steps=4, lr=1.0))
    moved = [round((before - after)[0, 0].item(), 4) for before, after in zip(steps, steps[1:], strict=False)]
    assert moved == [1.0, 0.75, 0.5] and start.tolist() == [[3.0, -2.0]]


def test_closed_form_brings_the_ridge_regression_to_the_truth():
    real, start = two_classes(), torch.randn(4, 4, generator=keyed("start"))
    learnt = closed_form(start, [torch.arange(4)], labels_of, real, Learning(steps=150))
    before, after = (wrongs(points, real) for points in (start, learnt))
    assert after < before / 2
    head = ridge_head(learnt, labels_of(learnt), 1.0)
    assert (head.of_means(real.points)[0].argmax(dim=1) == real.targets.argmax(dim=1)).float().mean() > 0.9


def wrongs(points, real):
    """Of the ridge regression of points [n, D] on real ones."""
    head = ridge_head(points, labels_of(points), 1.0)
    return closed_form_losses(head, real.points, real.targets, 0.3).mean().item()


def test_each_set_is_learnt_and_none_at_the_cost_of_another():
    """Two lists behind one another: the first two points are a set, and all six."""
    real, start = two_classes(), torch.randn(6, 4, generator=keyed("start"))
    sets = [torch.tensor([0, 3]), torch.arange(6)]
    learnt = closed_form(start, sets, labels_of, real, Learning(steps=150))
    alone = closed_form(start, sets[1:], labels_of, real, Learning(steps=150))
    small, whole = (wrongs(learnt[chosen], real) for chosen in sets)
    assert small < wrongs(start[sets[0]], real) / 2 and whole < 0.7 * wrongs(start, real)
    assert small < wrongs(alone[sets[0]], real)


def test_the_worst_judged_speakers_weigh_most():
    """log(mean exp(tilt * m)) / tilt of their means m, whoever says more; many of them alike weigh as one would."""
    losses, who = torch.tensor([1.0, 3.0, 0.0, 0.0, 0.0, 4.0]), torch.tensor([0, 0, 1, 1, 1, 2])
    means = torch.tensor([2.0, 0.0, 4.0])
    assert tilted_mean(losses, who, 1e-4).item() == pytest.approx(2.0, abs=1e-2)
    assert tilted_mean(losses, who, 100.0).item() == pytest.approx(4.0, abs=0.02)
    assert tilted_mean(losses, who, 0.7).item() == pytest.approx(torch.exp(0.7 * means).mean().log().item() / 0.7)
    real, head = two_classes(6), ridge_head(two_classes(6).points, two_classes(6).targets, 1.0)
    each = closed_form_losses(head, real.points, real.targets, 0.3)
    spoken = real._replace(speakers=who)
    assert mistakes(head, spoken, Learning(tilt=0.7)).item() == pytest.approx(tilted_mean(each, who, 0.7).item())
    for without in (mistakes(head, real, Learning(tilt=0.7)), mistakes(head, spoken, Learning())):
        assert without.item() == pytest.approx(each.mean().item())


def test_speakers_reach_the_points(tmp_path, monkeypatch):
    data = dataclasses.replace(tiny_data(), speakers=torch.arange(len(tiny_data().labels)) % 3)
    heard = []
    monkeypatch.setattr("s3prl_dd.distill.finish.learn_points",
                        lambda generator, number, real, speakers, *others: heard.append(speakers) or
                        torch.zeros(3, number, data.dim))
    tiny_trainer(tmp_path, data, tiny_pool(data), points=2, steps=2, eval_every=2).train(progress=False)
    assert torch.equal(heard[0], data.speakers)


def test_beginnings_of_each_class():
    places = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6])
    sets = beginnings(places, 7)
    assert [chosen.tolist() for chosen in sets] == [[0, 7], [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12], [*range(14)]]
    assert [len(chosen) for chosen in beginnings(torch.arange(60), 60)] == [1, 6, 12, 50, 60]
    assert [len(chosen) for chosen in beginnings(torch.zeros(3).long(), 1)] == [3]


def test_adams_units():
    """Dimension j counts as the inverse of its root mean square; points spread by 1 on average."""
    spread, center = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 50.0, 4.0])
    means = torch.randn(500, 3, generator=keyed("means")) * spread + center
    units = units_of_adam(means)
    ratio = units.spread.square() / means.square().mean(dim=0).sqrt()
    torch.testing.assert_close(ratio, ratio[:1].expand(3))
    assert units.units(means).std(dim=0).square().mean().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(units.units(means).mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_files_points_start_at_its_samples_and_know_the_teacher(tmp_path, monkeypatch):
    data = tiny_data()
    generator = tiny_trainer(tmp_path, data, tiny_pool(data)).current()
    asked = {}

    def learn(start, sets, labels_of, real, learning, progress):
        asked.update(start=start, taught=labels_of(start), real=real, sets=[len(chosen) for chosen in sets])
        return start + 1

    monkeypatch.setattr(module, "closed_form", learn)
    who = 3 * (torch.arange(len(data.labels)) % 4)  # of these numbers not all are there
    learnt = learn_points(generator, 7, (data.means, data.labels), who, seed=3)
    samples, units = generator.sample(7, seed=3, center=True), units_of_adam(data.means)
    assert learnt.shape == (3, 7, data.dim) and asked["sets"] == [3, 18, 21]
    start, firsts = samples.means(), torch.tensor([0, 7, 14])
    start[firsts] = generator.centers("teaching")
    assert not torch.allclose(start, samples.means(), atol=0.1)
    torch.testing.assert_close(asked["start"], units.units(start))
    others = torch.ones(21, dtype=torch.bool)
    others[firsts] = False
    torch.testing.assert_close(asked["taught"][others], samples.soft_labels[others], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(asked["taught"], generator.soften(start), rtol=1e-4, atol=1e-5)
    assert asked["real"].speakers.tolist() == (who // 3).tolist()
    torch.testing.assert_close(asked["real"].points, units.units(data.means))
    assert asked["real"].targets.argmax(dim=1).tolist() == data.labels.tolist()
    torch.testing.assert_close(learnt, (start + units.spread).view(3, 7, -1), rtol=1e-4, atol=1e-4)


def test_they_stand_in_the_finished_file(tmp_path):
    """Learnt once, though training is called again, of the generator that dev prefers."""
    data = tiny_data()
    trainer = tiny_trainer(tmp_path, data, tiny_pool(data), points=7, steps=2, eval_every=2)
    made = trainer.train(progress=False)
    assert made.points.shape == (3, 7, data.dim)
    assert trainer.current().points is None
    file = Generator.load(tmp_path / "generator.safetensors")
    expected = learn_points(file, 7, (data.means, data.labels), None, 4_000_000)
    torch.testing.assert_close(made.points, expected)
    assert torch.equal(trainer.train(progress=False).points, made.points)
    assert tiny_trainer(tmp_path / "none", data, tiny_pool(data), steps=2, eval_every=2).train(False).points is None


@pytest.mark.parametrize("wanted", [3, 0])
def test_other_numbers_of_them_are_learnt_anew(tmp_path, wanted):
    """Points are no part of a checkpoint's identity: the file of a finished training gets what is asked for."""
    data = tiny_data()
    tiny_trainer(tmp_path, data, tiny_pool(data), points=7, steps=2, eval_every=2).train(progress=False)
    made = tiny_trainer(tmp_path, data, tiny_pool(data), points=wanted, steps=2, eval_every=2).train(progress=False)
    for generator in (made, Generator.load(tmp_path / "generator.safetensors")):
        assert (0 if generator.points is None else generator.points.shape[1]) == wanted
        assert generator.header.training["points"] == wanted


def test_killed_while_they_are_learnt(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    data = tiny_data()
    changes = {"steps": 2, "eval_every": 2, "points": 4}
    whole = tiny_trainer(tmp_path / "whole", data, tiny_pool(data), **changes).train(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("s3prl_dd.distill.finish.learn_points", killed)
        tiny_trainer(tmp_path / "killed", data, tiny_pool(data), **changes).train(progress=False)
    again = tiny_trainer(tmp_path / "killed", data, tiny_pool(data), **changes).train(progress=False)
    assert torch.equal(again.points, whole.points)


@pytest.mark.parametrize("loss", [
    lambda points: closed_form_losses(
        ridge_head(points, labels_of(points), 0.5), *_double(two_classes(10)), 0.7).mean(),
    lambda points: gradient_distance(
        head_gradients(_heads(), *_double(two_classes(10))), head_gradients(_heads(), points, labels_of(points)))])
def test_gradients_pass_through_points_and_their_labels(loss):
    points = torch.randn(3, 4, generator=keyed("points"), dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss, points)


def _double(real: Real) -> Real:
    return Real(*(part.double() for part in real[:2]))[:2]


def _heads():
    heads = random_heads(3, 2, 4, keyed("heads"))
    return type(heads)(*(part.double() for part in heads))
