"""Sampling: what a generator file gives."""

import json
from inspect import signature

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.tiny_generator import LABELS, gaussian_generator, tiny_generator

from s3prl_dd.errors import UserError
from s3prl_dd.generator import DEFAULTS, GeneratedDataset, Generator, NetworkConfig, Sampling, class_counts
from s3prl_dd.generator.noise import draw_noise
from s3prl_dd.generator.sampling import CENTERED


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


def means(samples):
    return samples.features.mean(dim=1)


# samples


def test_shapes_and_units(generator):
    samples = generator.sample({"counts": [2, 3, 1]}, center=False)
    assert samples.features.shape == (6, 8, 10) and samples.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert samples.lengths.tolist() == [8] * 6
    torch.testing.assert_close(samples.soft_labels.sum(dim=1), torch.ones(6))
    stream = np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 4, 0]))
    noise = torch.from_numpy(stream.standard_normal(6, dtype=np.float32))
    expected = generator.network(noise[None], torch.tensor([1]))[0] * generator.std + generator.mean
    torch.testing.assert_close(samples.features[4], expected)


def test_soft_labels_are_the_mean_softmax_of_the_heads(generator):
    samples = generator.sample(2)
    weight, bias = generator.teacher
    for mean, soft in zip(means(samples), samples.soft_labels, strict=True):
        torch.testing.assert_close(soft, sum((weight[m] @ mean + bias[m]).softmax(0) for m in range(4)) / 4)
    assert tiny_generator(teacher=False).sample(2).soft_labels is None


def test_sample_depends_on_seed_epoch_and_number_alone(generator):
    """Whatever the batch: equal to 1e-5 (products of other sizes round differently), in the same batch to the bit."""
    whole = generator.sample(20, seed=3, epoch=2, center=False)
    assert torch.equal(whole.features, generator.sample(20, seed=3, epoch=2, center=False).features)
    small = generator.sample(20, seed=3, epoch=2, center=False, batch_size=7)
    torch.testing.assert_close(small.features, whole.features, atol=1e-5, rtol=1e-5)
    picked = generator.generate(whole.labels[[41, 5]], [41, 5], seed=3, epoch=2)
    torch.testing.assert_close(picked.features, whole.features[[41, 5]], atol=1e-5, rtol=1e-5)
    for seed, epoch in ((4, 2), (3, 3), (2, 3)):
        other = generator.sample(20, seed=seed, epoch=epoch, center=False)
        assert (other.features - whole.features).abs().amax(dim=(1, 2)).min() > 1e-3
    assert len(whole.features.flatten(1).unique(dim=0)) == 60


def test_samples_are_standard_normal_and_independent_where_the_network_leaves_noise_as_it_is():
    """Over numbers, dimensions, seeds and epochs."""
    generator = gaussian_generator(dim=50)
    sets = [means(generator.sample(100, seed=seed, epoch=epoch, center=False))
            for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    noise = torch.cat(sets).numpy()  # [1200, 50]
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs(noise.mean(axis=0)).max() < 0.15 and abs(noise.std(axis=0) - 1).max() < 0.15
    between_samples = np.corrcoef(noise)[np.triu_indices(len(noise), 1)]
    between_dimensions = np.corrcoef(noise.T)[np.triu_indices(50, 1)]
    assert abs(between_samples).max() < 0.8 and abs(between_samples.std() - 50 ** -0.5) < 0.01
    assert abs(between_dimensions).max() < 0.15


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    whole, part = draw_noise(7, 2, range(10), 6), draw_noise(7, 2, [8, 3], 6)
    assert torch.equal(part.vectors, whole.vectors[[8, 3]])
    assert part.quantiles == [whole.quantiles[8], whole.quantiles[3]]
    assert draw_noise(7, 3, [8], 6).quantiles != [whole.quantiles[8]]


@pytest.mark.parametrize("budget, counts", [
    (3, [3, 3, 3]), ({"ppc": 2}, [2, 2, 2]), ("balanced", [20] * 3), ("original", [20, 16, 24]),
    ({"total": 15}, [5, 4, 6]), ({"counts": [1, 7, 2]}, [1, 7, 2])])
def test_any_class_mix(generator, budget, counts):
    samples = generator.sample(budget)
    assert torch.bincount(samples.labels).tolist() == counts == generator.counts(budget)


def test_lengths_of_the_corpus(generator):
    samples = generator.sample(40, seed=1, lengths="corpus")
    for label in range(3):
        lengths = samples.lengths[samples.labels == label]
        low = (10, 30, 50)[label]
        assert lengths.min() >= low and lengths.max() <= low + 10 and len(lengths.unique()) > 4
    assert samples.features.shape[1] == samples.lengths.max()
    for frames, length in zip(samples.features, samples.lengths, strict=True):
        assert (frames[length:] == 0).all() and (frames[:length] != 0).any(dim=1).all()
    plain = generator.sample(40, seed=1)  # the same samples, stretched
    torch.testing.assert_close(samples.soft_labels, plain.soft_labels)
    assert (samples.features[7, :samples.lengths[7]].mean(dim=0) - plain.features[7].mean(dim=0)).abs().max() < 0.2
    batches = generator.sample(40, seed=1, lengths="corpus", batch_size=9)
    assert torch.equal(batches.lengths, samples.lengths)
    for draw in (generator.sample, lambda *_, lengths: generator.generate(torch.tensor([0]), [0], 0, lengths=lengths)):
        with pytest.raises(UserError, match="'generator' or 'corpus'"):
            draw(1, lengths="long")


def test_sampling_leaves_global_random_states_alone(generator):
    torch.manual_seed(5), np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5), np.random.seed(5)
    before = generator.sample(4, lengths="corpus").features
    assert torch.equal(torch.rand(3), expected[0]) and (np.random.rand(3) == expected[1]).all()
    torch.manual_seed(6), np.random.seed(6)
    assert torch.equal(generator.sample(4, lengths="corpus").features, before)


def test_sampling_keeps_no_gradients_and_no_state(generator):
    before = {key: value.clone() for key, value in generator.network.state_dict().items()}
    assert not generator.sample(4).features.requires_grad
    assert all(torch.equal(value, generator.network.state_dict()[key]) for key, value in before.items())


# calibration


def test_calibration_moves_each_sample(tmp_path):
    """As calibrate says, from a file as from memory."""
    plain = tiny_generator().sample(4, center=False)
    generator = tiny_generator(calibration=True)
    generator.save(tmp_path / "file")
    mean, (_, generated, real) = means(plain), generator.calibration
    expected = 2 * (mean - generated[plain.labels]) + real[plain.labels]
    for drawn in (generator, Generator.load(tmp_path / "file")):
        samples = drawn.sample(4, center=False)
        torch.testing.assert_close(means(samples), expected, atol=1e-4, rtol=1e-5)
        residual = samples.features - means(samples)[:, None]
        torch.testing.assert_close(residual, plain.features - mean[:, None], atol=1e-4, rtol=0)
        torch.testing.assert_close(samples.soft_labels, drawn.soften(means(samples)))


# centring


def test_a_centred_set_has_the_files_class_means(generator):
    samples = generator.sample({"counts": [2, 3, 9]}, seed=4, center=True, batch_size=5)
    plain = generator.sample({"counts": [2, 3, 9]}, seed=4, center=False)
    for label in range(3):
        here = samples.labels == label
        assert torch.allclose(samples.features[here].mean(dim=(0, 1)), generator.class_means[label], atol=1e-4)
        assert (plain.features[here].mean(dim=(0, 1)) - generator.class_means[label]).abs().max() > 1
        moved = samples.features[here] - plain.features[here]  # all samples of a class by one vector, in every frame
        assert torch.allclose(moved, moved[:1, :1].expand_as(moved), atol=1e-4)
    assert torch.allclose(samples.soft_labels, generator.soften(means(samples)), atol=1e-4)
    assert (samples.soft_labels - plain.soft_labels).abs().max() > 1e-3


def test_a_centred_set_is_drawn_once(generator, monkeypatch):
    drawn, raw = [], generator.raw

    def logged(labels, indices, *rest):
        drawn.extend(indices)
        return raw(labels, indices, *rest)

    monkeypatch.setattr(generator, "raw", logged)
    generator.sample(7, batch_size=4, center=True)
    assert drawn == list(range(21))


def test_a_centred_set_is_the_raw_one_and_its_shift(generator):
    labels = torch.tensor([0, 0, 2, 2, 2])  # no sample of class 1
    samples = next(iter(generator.draw_set(labels, seed=1, center=True)))
    shift = generator.shift(labels, seed=1)
    assert torch.equal(samples.features, generator.raw(labels, range(5), 1).frames + shift[:, None])
    assert shift.isfinite().all() and shift.shape == (5, 10)
    assert torch.equal(shift[0], shift[1]) and torch.equal(shift[2], shift[4]) and (shift[0] - shift[2]).abs().max() > 0


# defaults


def test_every_door_has_the_same_defaults(generator):
    """What a user gets who sets nothing is said in one place."""
    doors = (Generator.sample, Generator.write_samples, Generator.draw_set, GeneratedDataset.__init__)
    for door in doors:
        for name, parameter in signature(door).parameters.items():
            if name in ("lengths", "resample") or (name == "center" and door is GeneratedDataset.__init__):
                assert parameter.default == getattr(DEFAULTS, name), (door, name)
            elif name == "center":
                assert parameter.default is CENTERED is True, door
    assert DEFAULTS == Sampling() == Sampling(labels="soft", center="auto", resample="auto", lengths="generator")
    assert torch.equal(generator.sample(3).features, generator.sample(3, center=True).features)


# a set as a file


@pytest.mark.parametrize("options", [{}, {"lengths": "corpus", "center": False}])
def test_write_samples(generator, tmp_path, capsys, options):
    out = tmp_path / "samples.safetensors"
    generator.write_samples(out, {"total": 15}, 3, **options)
    tensors, expected = load_file(out), generator.sample({"total": 15}, 3, **options)
    assert tensors.keys() == vars(expected).keys()
    for key, value in vars(expected).items():
        assert torch.equal(tensors[key], value), key
    with safe_open(out, "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
    features = about.pop("features")
    assert about == {"labels": LABELS, "budget": {"total": 15}, "seed": 3, "center": options.get("center", True)}
    assert features["upstream"] == "made" and features["layer_weights"] == [0.25, 0.75]
    assert "15 samples, [5, 4, 6] a class" in capsys.readouterr().out


def test_samples_without_a_teacher_are_written_without_soft_labels(tmp_path):
    tiny_generator(teacher=False).write_samples(tmp_path / "samples", 2)
    assert load_file(tmp_path / "samples").keys() == {"features", "lengths", "labels"}


def test_a_budget_that_is_none_writes_nothing(generator, tmp_path):
    with pytest.raises(UserError, match="plenty"):
        generator.write_samples(tmp_path / "samples", "plenty")
    assert not list(tmp_path.iterdir())


def test_what_is_written_never_takes_a_generators_place(generator, tmp_path):
    path = tmp_path / "generator.safetensors"
    generator.save(path)
    kept = path.read_bytes()
    with pytest.raises(UserError, match="is a generator file, and what was asked for would take its place"):
        Generator.load(path).write_samples(path, 2)
    assert path.read_bytes() == kept
    generator.write_samples(tmp_path / "samples", 2)
    generator.write_samples(tmp_path / "samples", 3)  # samples may be drawn anew
    assert len(load_file(tmp_path / "samples")["labels"]) == 9


@pytest.mark.parametrize("seed", [1.5, "1", -1, True, None])
def test_a_seed_or_an_epoch_that_is_no_whole_number(generator, seed):
    with pytest.raises(UserError, match=r"seed .*: expected a whole number from 0"):
        generator.sample(2, seed=seed)
    with pytest.raises(UserError, match=r"epoch .*: expected a whole number from 0"):
        generator.sample(2, epoch=seed)


def test_numbers_may_be_numpys(generator):
    drawn = generator.sample(np.int64(3), seed=np.int32(5), epoch=np.int64(1))
    assert torch.equal(drawn.features, generator.sample(3, seed=5, epoch=1).features)
    assert class_counts({"counts": [np.int64(1), 2, 3]}, [5, 5, 5]) == [1, 2, 3]


def points_generator(counts=(3, 2, 4)):
    """A generator whose samples are the numbers 0, 1, 2, ... in the order of its list."""
    generator = tiny_generator(NetworkConfig(architecture="points", frames=2), listed=list(counts))
    with torch.no_grad():
        generator.network.points.copy_(torch.arange(float(sum(counts)))[:, None, None].expand(-1, 2, 10))
    generator.mean, generator.std = torch.zeros(10), torch.ones(10)
    return generator


def test_a_budget_takes_the_first_points_of_each_class():
    """Whatever the seed, the batch and the epoch."""
    generator = points_generator()
    for seed, batch in ((0, 512), (5, 2)):
        samples = generator.sample({"counts": [2, 1, 3]}, seed=seed, batch_size=batch, center=False)
        assert samples.features[:, 1, 3].tolist() == [0, 1, 3, 5, 6, 7]
    assert generator.sample(2, epoch=3, center=False).features[:, 0, 0].tolist() == [0, 1, 3, 4, 5, 6]


def test_more_points_than_the_list_holds_are_refused():
    with pytest.raises(UserError, match=r"budget 3: asks for \[3, 3, 3\] points .* the file's list holds \[3, 2, 4\]"):
        points_generator().counts(3)
    with pytest.raises(ValueError, match="give the places"):
        points_generator().generate(torch.tensor([0]), [0], 0)


def test_an_unknown_center_is_refused():
    with pytest.raises(UserError, match="center 'teachin': expected true, false"):
        tiny_generator().sample(2, center="teachin")
