"""Rivals as generator files: made of the training part alone, of the seed, with the teacher's labels."""

import dataclasses

import pytest
import torch
from support.gauss import DIM, PARTS, tiny_data, tiny_pool
from support.tiny_generator import loaded

from s3prl_dd.distill.data import Scale
from s3prl_dd.rivals import make
from s3prl_dd.rivals.make import Material, make_rival
from s3prl_dd.rivals.subsets import herded_subset, random_subset

WANTED = [2, 1, 3]


@pytest.fixture(scope="module")
def material():
    data = tiny_data()
    return Material(data, PARTS, tiny_pool(data))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(make, "LEARNING", make.Learning(steps=3))
    monkeypatch.setattr(make, "MATCHING", make.Matching(steps=3))


@pytest.mark.parametrize("name", ["random_real", "herding"])
def test_real_utterances_are_in_the_file_in_their_order(name, material, tmp_path):
    """As T frames, in the features' units, whatever seed they are drawn with."""
    generator = loaded(make_rival(name, material, WANTED, "soft", seed=3), tmp_path / "file")
    data = material.data
    chosen = random_subset(data.labels, WANTED, 3)
    if name == "herding":
        chosen = herded_subset(Scale.of(data.means).units(data.means), data.labels, WANTED)
    expected = data.source.values[chosen] * data.std + data.mean
    samples = generator.sample({"counts": WANTED}, seed=8, center=False)
    torch.testing.assert_close(samples.features, expected)
    assert samples.labels.tolist() == data.labels[chosen].tolist()


@pytest.mark.parametrize("name", ["random_real", "herding", "gradient_matching", "closed_form", "gaussian"])
def test_labels_are_the_teachers_and_means_are_real(name, material, tmp_path):
    generator = loaded(make_rival(name, material, WANTED, "soft", seed=0), tmp_path / "file")
    samples = generator.sample({"counts": [2, 1, 1]})
    heads = material.pool.teacher().linear()
    soft = heads.of_means(samples.features.mean(dim=1)).softmax(dim=-1).mean(dim=0)
    torch.testing.assert_close(samples.soft_labels, soft.detach())
    for label, center in enumerate(generator.class_means):
        torch.testing.assert_close(center, material.data.means[material.data.labels == label].mean(dim=0))
    header = generator.header
    assert header.class_counts == material.data.class_counts and header.corpus.test_digest == PARTS.corpus.test_digest
    assert header.labels == PARTS.labels and header.features == PARTS.features


@pytest.mark.parametrize("name", ["gradient_matching", "closed_form"])
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_learnt_points_start_at_the_random_subset(name, labels, material, monkeypatch):
    """They are utterance means; what they teach is the teacher's word on them, or their class."""
    asked = {}

    def learn(start, *others):
        labels_of, real = others[-3:-1] if name == "closed_form" else others[:2]
        asked.update(start=start, taught=labels_of(start), real=real)
        return start + 1

    monkeypatch.setattr(make, name, learn)
    generator = make_rival(name, material, WANTED, labels, seed=5)
    data, scale = material.data, Scale.of(material.data.means)
    chosen = random_subset(data.labels, WANTED, 5)
    torch.testing.assert_close(asked["start"], scale.units(data.means[chosen]))
    assert asked["real"].targets.argmax(dim=1).tolist() == data.labels.tolist()
    heads = material.pool.teacher().linear()
    teacher = heads.of_means(data.means[chosen]).softmax(dim=-1).mean(dim=0).detach()
    classes = torch.eye(3)[data.labels[chosen]]
    torch.testing.assert_close(asked["taught"], teacher if labels == "soft" else classes, atol=1e-5, rtol=1e-4)
    samples = generator.sample({"counts": WANTED}, center=False)
    torch.testing.assert_close(samples.features[:, 0], data.means[chosen] + scale.spread)


def test_seeds_make_other_points(material):
    for name in ("random_real", "gradient_matching", "closed_form"):
        one, other = (make_rival(name, material, WANTED, "soft", seed).network.points for seed in (0, 1))
        assert not torch.equal(one, other), name


def test_nothing_is_made_of_dev(material):
    """Other dev utterances, the same files."""
    means, labels = material.data.dev
    other = material._replace(data=dataclasses.replace(material.data, dev=(means + 5, labels)))
    for name in ("random_real", "herding", "gaussian", "gaussian_frames", "gaussian_frames_any", "gradient_matching",
                 "closed_form"):
        one, same = (make_rival(name, made_of, WANTED, "soft", 0).network.state_dict() for made_of in (material, other))
        assert all(torch.equal(one[key], same[key]) for key in one), name


def test_a_gaussian_with_frames_has_the_frames_of_the_material(material):
    generator = make_rival("gaussian_frames", material, WANTED, "soft", seed=0)
    assert generator.sample(2).features.shape == (6, material.data.frames, DIM)
    assert make_rival("gaussian", material, WANTED, "soft", 0).header.network.frames == 1


def test_the_two_gaussians_with_frames_differ_in_whose_deviations_they_have_alone(material):
    own, other = (make_rival(name, material, WANTED, "soft", 0) for name in ("gaussian_frames", "gaussian_frames_any"))
    assert [rival.header.network.movement for rival in (own, other)] == ["own", "any"]
    theirs = other.network.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in own.network.state_dict().items())
