"""Teaching points: judged as the class's mean, the nearest such point as Adam sees distance, and where they go."""

import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset
from s3prl_dd.generator.centers import shift_to, shift_to_points, teaching_points
from tests.support.tiny_generator import tiny_generator

C, D, M = 3, 8, 4


@pytest.fixture
def parts():
    source = torch.Generator().manual_seed(0)
    class_means, weight = (torch.randn(*shape, generator=source) for shape in ((C, D), (M, C, D)))
    return class_means, weight, torch.rand(D, generator=source) * 9 + 0.1


def opinion(points, weight):
    """Differences between the classes' logits, mean of the heads: [n, C]."""
    logits = points @ weight.mean(dim=0).T
    return logits - logits.mean(dim=1, keepdim=True)


def test_the_heads_judge_them_as_the_class_means(parts):
    class_means, weight, mean_square = parts
    points = teaching_points(class_means, weight, mean_square)
    torch.testing.assert_close(opinion(points, weight), opinion(class_means, weight), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(points.mean(dim=0), class_means.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_no_point_that_is_judged_so_is_nearer(parts):
    """The least squares of sum_j (x_j - m_j)^2 / r_j under the constraint, solved by a general solver."""
    class_means, weight, mean_square = (part.double() for part in parts)
    root = mean_square.sqrt().sqrt()
    rows = weight.mean(dim=0) - weight.mean(dim=(0, 1))
    apart = class_means - class_means.mean(dim=0)
    least = torch.linalg.lstsq(rows * root, rows @ apart.T, driver="gelsd").solution  # [D, C]
    expected = class_means.mean(dim=0) + (least * root[:, None]).T
    torch.testing.assert_close(teaching_points(*parts), expected.float(), rtol=1e-4, atol=1e-4)


def test_two_classes_by_hand():
    """Along the difference of the two rows times the root mean square, as far as the class means lie along it."""
    class_means, weight = torch.tensor([[1.0, 5.0], [-1.0, -5.0]]), torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    points = teaching_points(class_means, weight, torch.tensor([4.0, 100.0]))
    torch.testing.assert_close(points, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    weight = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]])  # rows [1, 1], reach [2, 10]: (1 + 5) / (2 + 10) of it
    points = teaching_points(class_means, weight, torch.tensor([4.0, 100.0]))
    torch.testing.assert_close(points, torch.tensor([[1.0, 5.0], [-1.0, -5.0]]))


def test_a_set_of_means_lies_at_them_and_one_of_frames_at_the_class_means():
    generator = tiny_generator(teacher=True)
    taught = teaching_points(generator.class_means, generator.teacher.weight,
                             generator.mean.square() + generator.std.square())
    assert (taught - generator.class_means).abs().max() > 0.1
    for means, expected in ((True, taught), (False, generator.class_means)):
        data = GeneratedDataset(generator, 5, seed=2, means=means)
        for label in range(3):
            points = torch.stack([item.features.mean(dim=0) for item in data if item.label == label])
            torch.testing.assert_close(points.mean(dim=0), expected[label], rtol=1e-4, atol=1e-4)


def test_large_sets_lie_at_the_class_means():
    generator = tiny_generator(teacher=True)
    chosen = [generator.resolve_center("auto", [1, most, 2], means, fixed=True)
              for most in (50, 51) for means in (True, False)]
    assert chosen == ["teaching", True, True, True]


def test_a_small_set_of_means_lies_at_the_files_points():
    """The first of each class, each sample at its own; frames deviate as they were drawn; other sets lie as without."""
    generator, plain = tiny_generator(points=4), tiny_generator()
    means = GeneratedDataset(generator, {"counts": [4, 2, 3]}, seed=2, means=True)
    expected = torch.cat([generator.points[label, :count] for label, count in enumerate([4, 2, 3])])
    torch.testing.assert_close(torch.cat([item.features for item in means]), expected, rtol=1e-4, atol=1e-4)
    frames = generator.sample({"counts": [4, 2, 3]}, seed=2, center="learnt").features
    drawn = generator.sample({"counts": [4, 2, 3]}, seed=2, center=False).features
    torch.testing.assert_close(frames.mean(dim=1), expected, rtol=1e-4, atol=1e-4)
    within, as_drawn = (values - values.mean(dim=1, keepdim=True) for values in (frames, drawn))
    torch.testing.assert_close(within, as_drawn, rtol=1e-4, atol=1e-4)
    for budget, kind in ((4, False), (5, True)):  # for frame-level heads, more than there are
        one, other = (GeneratedDataset(source, budget, means=kind) for source in (generator, plain))
        assert one.center == other.center and torch.equal(one[0].features, other[0].features)
    chosen = [generator.resolve_center("auto", [1, most, 2], means, fixed=True)
              for most in (4, 5, 51) for means in (True, False)]
    assert chosen == ["learnt", True, "teaching", True, True, True]
    assert generator.resolve_center("auto", [1, 4, 2], True, fixed=False) == "teaching"
    assert GeneratedDataset(generator, 4, means=True, resample=2).center == "teaching"


def test_samples_beyond_the_list_lie_at_the_class_means():
    generator = tiny_generator(points=2)
    means = generator.sample(5, center="learnt").means().view(3, 5, 10)
    torch.testing.assert_close(means[:, :2], generator.points, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(means[:, 2:].mean(dim=1), generator.class_means, rtol=1e-4, atol=1e-4)
    drawn = generator.sample(5, center=False).means().view(3, 5, 10)
    assert not torch.allclose(drawn[:, 2:].mean(dim=1), generator.class_means, atol=0.1)


def test_shift_to_points_in_any_order_of_classes():
    points = torch.arange(12.0).view(3, 2, 2)
    labels, means = torch.tensor([2, 0, 2, 0]), torch.randn(4, 2)
    moved = means + shift_to_points(points, torch.zeros(3, 2), means, labels)
    torch.testing.assert_close(moved, torch.stack([points[2, 0], points[0, 0], points[2, 1], points[0, 1]]))


def test_a_file_without_learnt_points_says_so():
    with pytest.raises(UserError, match="center: learnt: the generator file has no learnt points"):
        tiny_generator().sample(2, center="learnt")


def test_a_generator_refuses_auto_which_depends_on_the_head():
    generator, labels = tiny_generator(), torch.arange(3)
    for draw in (lambda: generator.sample(2, center="auto"), lambda: generator.shift(labels, 0, center="auto"),
                 lambda: generator.centers("auto")):
        with pytest.raises(UserError, match="center 'auto': depends on the head"):
            draw()
    with pytest.raises(UserError, match="center 'middle': expected true, false, 'teaching', 'learnt'"):
        generator.sample(2, center="middle")
    assert [generator.resolve_center(center, [2], True, fixed=True) for center in (True, False, "teaching")] \
        == [True, False, "teaching"]


def test_without_a_teacher_there_are_none():
    generator = tiny_generator(teacher=False)
    assert generator.resolve_center("auto", [2, 2, 2], True, fixed=True) is True
    with pytest.raises(UserError, match="center: teaching: the generator file has no teacher"):
        generator.sample(2, center="teaching")


def test_samples_of_equal_place_differ_by_their_centers_alone():
    source = torch.Generator().manual_seed(1)
    centers, means = torch.randn(3, 5, generator=source), torch.randn(12, 5, generator=source)
    labels = torch.arange(3).repeat_interleave(4)
    moved = (means + shift_to(centers, means, labels, in_step=True)).view(3, 4, 5)
    deviations = means.view(3, 4, 5) - means.view(3, 4, 5).mean(dim=1, keepdim=True)
    expected = centers[:, None] + deviations.mean(dim=0)
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-5)


def test_classes_of_unequal_number_lie_at_their_centers_too():
    source = torch.Generator().manual_seed(1)
    centers, means = torch.randn(3, 5, generator=source), torch.randn(9, 5, generator=source)
    labels = torch.tensor([0, 0, 0, 0, 0, 2, 2, 2, 0])  # none of class 1
    for in_step in (False, True):
        moved = means + shift_to(centers, means, labels, in_step)
        for label in (0, 2):
            torch.testing.assert_close(moved[labels == label].mean(dim=0), centers[label], rtol=1e-5, atol=1e-5)
    apart = moved[labels == 0] - means[labels == 0]
    assert torch.allclose(apart[3:], apart[3:4].expand(3, 5), atol=1e-5)  # whom no other class stands beside
    assert not torch.allclose(apart[0], apart[3], atol=1e-2)


def test_classes_in_step_are_made_from_the_same_noise(monkeypatch):
    """In a set at teaching points alone, whichever way it is drawn."""
    numbers, generator = [], tiny_generator()
    raw = generator.raw

    def logged(labels, indices, *others):
        numbers.extend(zip(labels.tolist(), indices, strict=True))
        return raw(labels, indices, *others)

    monkeypatch.setattr(generator, "raw", logged)
    budget, in_step = {"counts": [2, 3, 1]}, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]
    generator.sample(budget, center="teaching", batch_size=4)
    assert numbers == in_step
    numbers.clear()
    generator.sample(budget, center=True)
    assert [number for _, number in numbers] == list(range(6))
    numbers.clear()
    monkeypatch.setattr("s3prl_dd.generator.dataset.KEPT_BYTES", 0)
    data = GeneratedDataset(generator, budget, center="teaching")
    assert numbers == in_step  # of the shift
    data[3]
    assert numbers[6:] == [(1, 1)]


def test_a_set_at_teaching_points_is_in_step():
    generator = tiny_generator()
    means = generator.sample(4, center="teaching").means().view(3, 4, 10)
    torch.testing.assert_close(means[0] - means[1], (means[0] - means[1])[:1].expand(4, 10), rtol=1e-4, atol=1e-4)
