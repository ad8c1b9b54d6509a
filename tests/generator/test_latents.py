"""Learnt latents of a file: any budget begins with them, then goes on drawing."""

import pytest
import torch
from support.tiny_generator import CLASSES, rewrite, tiny_generator

from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset, Generator, NetworkConfig, SampleStore, inspect
from s3prl_dd.generator.samples import index_labels
from s3prl_dd.generator.store import key_of
from s3prl_dd.rng import keyed

NUMBER, NOISE = 4, 6


def latents(number=NUMBER):
    return torch.randn(CLASSES, number, NOISE, generator=keyed("latents"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("latents") / "generator.safetensors"
    generator = tiny_generator(calibration=True)
    generator.latents = latents()
    generator.save(path)
    return path


@pytest.fixture(scope="module")
def generator(path):
    return Generator.load(path)


def frames_of(generator, counts):
    """What the network makes of the first latents of each class, in the features' units, calibrated."""
    alone = generator.without_latents()
    labels = index_labels(counts)
    noise = torch.cat([latents()[label, :count] for label, count in enumerate(counts)])
    frames = alone.network(noise, labels) * alone.std + alone.mean
    means, moves = frames.mean(dim=1), alone.calibration
    shift = (means - moves.generated[labels]) @ moves.matrix + moves.real[labels] - means
    return frames + shift[:, None]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_budget_below_the_lists_length_is_its_beginning(generator, center, seed):
    """Whatever the seed, and never shifted."""
    samples = generator.sample({"counts": [3, 1, 2]}, seed, center=center)
    torch.testing.assert_close(samples.features, frames_of(generator, [3, 1, 2]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(samples.soft_labels, generator.soften(samples.features.mean(dim=1)))


def test_beyond_the_list_samples_are_drawn_and_centred_among_themselves(generator):
    counts = [6, 3, 9]
    plain = generator.without_latents().sample({"counts": counts}, seed=5, center=False)
    samples = generator.sample({"counts": counts}, seed=5)
    uncentred = generator.sample({"counts": counts}, seed=5, center=False)
    for label, first in ((0, 0), (2, 9)):
        drawn = slice(first + NUMBER, first + counts[label])
        torch.testing.assert_close(uncentred.features[drawn], plain.features[drawn], rtol=1e-4, atol=1e-4)
        of_drawn = samples.features[drawn].mean(dim=(0, 1))
        torch.testing.assert_close(of_drawn, generator.class_means[label], rtol=1e-4, atol=1e-4)
        learnt = slice(first, first + NUMBER)
        assert torch.equal(samples.features[learnt], uncentred.features[learnt])
    assert torch.equal(samples.features[6:9], uncentred.features[6:9])  # a class whose samples are all of the list


def test_later_sets_are_drawn_anew(generator):
    data = GeneratedDataset(generator, 2, seed=3, resample=True)
    data.set_epoch(0)
    torch.testing.assert_close(data[0].features, frames_of(generator, [2, 2, 2])[0], rtol=1e-4, atol=1e-4)
    data.set_epoch(1)
    expected = generator.without_latents().sample(2, seed=3, epoch=1)
    assert torch.equal(data[0].features, expected.features[0])


@pytest.mark.parametrize("counts", [[2, 3, 1], [5, 7, 4]])
def test_every_way_to_a_set_gives_the_same(generator, tmp_path, monkeypatch, counts):
    """In memory, by means, through a store's spilt file, and batch by batch where the set is too large."""
    expected = generator.sample({"counts": counts}, seed=3)
    means = GeneratedDataset(generator, {"counts": counts}, seed=3, center=True, means=True)
    stored = GeneratedDataset(generator, {"counts": counts}, seed=3, store=tmp_path)
    monkeypatch.setattr("s3prl_dd.generator.dataset.KEPT_BYTES", 0)
    large = GeneratedDataset(generator, {"counts": counts}, seed=3)
    for index, frames in enumerate(expected.features):
        torch.testing.assert_close(means[index].features[0], frames.mean(dim=0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stored[index].features, frames, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(large[index].features, frames, rtol=1e-4, atol=1e-4)


def test_a_store_tells_sets_with_and_without_the_list_apart(generator, tmp_path):
    drawn = generator.without_latents()
    arguments = [2, 2, 2], 3, 0, "generator", True
    assert key_of(generator, *arguments).name() != key_of(drawn, *arguments).name()
    store = SampleStore(tmp_path)
    assert not torch.equal(store.get(generator, *arguments).sample(0), store.get(drawn, *arguments).sample(0))
    later = [2, 2, 2], 3, 1, "generator", True
    assert key_of(generator, *later) == key_of(drawn, *later)


def test_the_file_keeps_them(path, tmp_path, capsys):
    again = Generator.load(path)
    assert torch.equal(again.latents, latents())
    assert torch.equal(again.sample(9, seed=2).features, Generator.load(path).sample(9, seed=2).features)
    again.save(tmp_path / "half", half=True)
    assert torch.equal(Generator.load(tmp_path / "half").latents, latents().half().float())
    inspect(path)
    assert "4 latents of each class were learnt" in capsys.readouterr().out
    tiny_generator().save(tmp_path / "none")
    inspect(tmp_path / "none")
    assert Generator.load(tmp_path / "none").latents is None and "small sets   as drawn" in capsys.readouterr().out


@pytest.mark.parametrize("wrong, complaint", [
    (torch.zeros(CLASSES, 4, NOISE + 1), r"tensor latents has shape \[3, 4, 7\], expected \[3, 4, 6\]"),
    (torch.zeros(CLASSES + 1, 4, NOISE), r"expected \[3, 4, 6\]"),
    (torch.zeros(CLASSES, 0, NOISE), r"expected \[3, 1, 6\]"),
    (torch.zeros(CLASSES, NOISE), r"expected \[3, 1, 6\]"),
    (torch.full((CLASSES, 4, NOISE), torch.nan), "tensor latents has values that are not finite"),
])
def test_wrong_ones_are_refused(path, tmp_path, wrong, complaint):
    copy = tmp_path / "wrong"
    copy.write_bytes(path.read_bytes())
    rewrite(copy, tensors=lambda tensors: tensors.update(latents=wrong))
    with pytest.raises(UserError, match=complaint):
        Generator.load(copy)


def test_a_list_of_points_has_none():
    config = NetworkConfig(architecture="points", frames=1)
    generator = tiny_generator(config, points=[2, 2, 2])
    generator.latents = torch.zeros(CLASSES, 2, 1)
    with pytest.raises(UserError, match="holds the tensor 'latents'"):
        generator.save("nowhere")
