"""Quick heads on dev, diversity within classes, the picture."""

import pytest
import torch
from support.gauss import DIM, tiny_data

from s3prl_dd.distill.selection import project, quick_uar, some_of_each, within_class_distance
from s3prl_dd.pool.pool import score_heads, train_heads

SCALE = torch.tensor(2.0)


def test_quick_uar_is_of_heads_trained_on_the_samples():
    """Samples of swapped classes teach swapped classes, whatever the real ones are."""
    data = tiny_data()
    swap = torch.tensor([1, 2, 0])
    right = quick_uar((data.means, data.labels), data.dev, SCALE, 2, 300, 3)
    wrong = quick_uar((data.means, swap[data.labels]), data.dev, SCALE, 2, 300, 3)
    assert right > 0.8 and wrong < 0.2
    swapped_dev = data.dev[0], swap[data.dev[1]]
    assert quick_uar((data.means, swap[data.labels]), swapped_dev, SCALE, 2, 300, 3) > 0.8


def test_quick_uar_is_the_mean_over_heads_and_the_last_half_of_their_training():
    data = tiny_data()
    blurred = data.dev[0] + 4 * torch.randn(45, DIM, generator=torch.Generator().manual_seed(0))
    scores = []
    for seed in (0, 1):
        for steps in (3, 4, 5, 6):
            head = train_heads(data.means / 2, data.labels, [seed], steps=steps, lr=3e-3, classes=3)[-1].heads
            scores += score_heads(head, blurred / 2, data.dev[1])
    assert len(set(scores)) > 2
    samples, dev = (data.means, data.labels), (blurred, data.dev[1])
    assert quick_uar(samples, dev, SCALE, 2, 6, 3) == pytest.approx(sum(scores) / 8, abs=1e-3)


def test_within_class_distance_by_hand():
    data = tiny_data()
    pairs = [(data.means[a] - data.means[b]).norm().item() for a in range(60) for b in range(a)
             if data.labels[a] == data.labels[b]]
    assert within_class_distance(data.means, data.labels) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    assert within_class_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), torch.tensor([0, 0, 1])) == 5


@pytest.mark.parametrize("names", [{"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 1}])
def test_project_shows_both_on_the_same_axes(names):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % len(names)
    real, generated = (torch.randn(30, 4, generator=draw) + 3 * labels[:, None] for _ in range(2))
    figure = project((real, labels), (generated, labels), names)
    left, right = figure.axes
    assert left.get_title() == "real utterance means" and right.get_title() == "generated utterance means"
    assert left.get_xlim() == right.get_xlim() and len(left.collections) == len(right.collections) == len(names)
    real_points = torch.cat([torch.as_tensor(dots.get_offsets().data) for dots in left.collections])
    assert len(real_points) == 30 and not torch.equal(real_points, torch.cat(
        [torch.as_tensor(dots.get_offsets().data) for dots in right.collections]))


def test_large_sets_are_measured_on_some_of_each_class():
    means, labels = torch.arange(30.0)[:, None], torch.tensor([0] * 20 + [1] * 10)
    some, of = some_of_each(means, labels, most=5)
    assert some[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 22, 24, 26, 28] and of.tolist() == [0] * 5 + [1] * 5
    assert torch.equal(some_of_each(means, labels)[0], means)


def test_project_of_a_handful_of_utterances():
    """Too few for discriminants: four points in 80 dimensions, two of a class."""
    points, labels = torch.zeros(4, 80), torch.tensor([0, 0, 1, 1])
    points[:, 0] = torch.tensor([0.0, 1.0, 5.0, 6.0])
    figure = project((points, labels), (points, labels), {"neu": 0, "ang": 1})
    assert figure.axes[0].get_xlabel() == "principal component 1"
