"""A generator's samples as a dataset: the same frames as Generator.sample, drawn once an epoch."""

import pickle
from collections import Counter

import pytest
import torch
from support.tiny_generator import tiny_generator
from torch.utils.data import DataLoader, DistributedSampler

from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset, Generator, NetworkConfig, Samples
from s3prl_dd.generator import dataset as module


@pytest.fixture
def generator():
    return tiny_generator(calibration=True)


@pytest.fixture
def drawn(generator, monkeypatch):
    """(epoch, number) of each sample that is drawn."""
    log, raw = [], generator.raw

    def logged(labels, indices, seed, epoch=0, *rest):
        log.extend((epoch, index) for index in indices)
        return raw(labels, indices, seed, epoch, *rest)

    monkeypatch.setattr(generator, "raw", logged)
    return log


def whole(data):
    return data.collate(data.__getitems__(range(len(data))))


def identical(one: Samples, other: Samples):
    for key, value in vars(one).items():
        assert torch.equal(value, getattr(other, key)), key


def test_items(generator):
    data = GeneratedDataset(generator, {"counts": [2, 1, 2]}, seed=4)
    samples = generator.sample({"counts": [2, 1, 2]}, seed=4)
    assert len(data) == 5 and data.counts == [2, 1, 2]
    for index in range(5):
        item = data[index]
        assert torch.equal(item.features, samples.features[index])
        assert torch.equal(item.soft_label, samples.soft_labels[index])
        assert item.label == samples.labels[index] and item.name == f"generated-0-{index}"
    for index in (5, -1):
        with pytest.raises(IndexError):
            data[index]
    assert GeneratedDataset(tiny_generator(teacher=False), 1)[0].soft_label is None
    with pytest.raises(UserError, match="'generator' or 'corpus'"):
        GeneratedDataset(generator, 2, lengths="long")


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("lengths", ["generator", "corpus"])
@pytest.mark.parametrize("resample", [False, True])
def test_the_set_is_that_of_sample_to_the_bit(generator, center, lengths, resample):
    data = GeneratedDataset(generator, 5, seed=2, resample=resample, lengths=lengths, center=center)
    for epoch in (0, 3):
        data.set_epoch(epoch)
        expected = generator.sample(5, seed=2, epoch=epoch if resample else 0, lengths=lengths, center=center)
        identical(whole(data), expected)


def test_a_set_of_several_batches_is_that_of_sample_to_the_bit(generator):
    data = GeneratedDataset(generator, 200, seed=2, lengths="corpus")
    assert len(data) == 600
    identical(whole(data), generator.sample(200, seed=2, lengths="corpus"))
    assert [data[index].name for index in (0, 511, 512, 599)] == [f"generated-0-{i}" for i in (0, 511, 512, 599)]


@pytest.mark.parametrize("center", [False, True, "teaching"])
@pytest.mark.parametrize("counts", [[2, 3, 1], [5, 7, 4]])
def test_every_way_to_a_set_gives_the_same(generator, tmp_path, monkeypatch, counts, center):
    """In memory, by means, through a store's spilt file, and batch by batch where the set is too large."""
    generator.save(tmp_path / "generator.safetensors")
    generator = Generator.load(tmp_path / "generator.safetensors")
    expected = generator.sample({"counts": counts}, seed=3, center=center)
    options = {"budget": {"counts": counts}, "seed": 3, "center": center}
    means = GeneratedDataset(generator, **options, means=True)
    stored = GeneratedDataset(generator, **options, store=tmp_path / "samples")
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    large = GeneratedDataset(generator, **options)
    for index, frames in enumerate(expected.features):
        torch.testing.assert_close(means[index].features[0], frames.mean(dim=0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(stored[index].features, frames, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(large[index].features, frames, rtol=1e-4, atol=1e-4)


def test_centring_is_passed_on(generator):
    centred, plain = (GeneratedDataset(generator, 4, seed=2, center=center) for center in (True, False))
    assert torch.equal(GeneratedDataset(generator, 4, seed=2)[5].features, centred[5].features)
    for label in range(3):
        mean = torch.stack([centred[4 * label + number].features for number in range(4)]).mean(dim=(0, 1))
        torch.testing.assert_close(mean, generator.class_means[label], atol=1e-4, rtol=0)
    assert (centred[5].features - plain[5].features).abs().max() > 0.1


def test_epochs_are_new_draws_or_one_fixed_set(generator):
    new, fixed = (GeneratedDataset(generator, 2, resample=resample) for resample in (True, False))
    first = [data[3].features for data in (new, fixed)]
    new.set_epoch(1), fixed.set_epoch(1)
    assert not torch.equal(new[3].features, first[0]) and torch.equal(fixed[3].features, first[1])
    assert new[3].name == "generated-1-3" and fixed[3].name == "generated-0-3"
    new.set_epoch(0)
    assert torch.equal(new[3].features, first[0])


@pytest.mark.parametrize("center", [False, True, "teaching"])
def test_a_budget_in_numbers_is_one_set_that_deviates_in_turn(generator, center):
    """Its utterance means, lengths and labels stay; the ninth epoch is as the first, which is `sample`'s."""
    for lengths in ("generator", "corpus"):
        data = GeneratedDataset(generator, 4, seed=2, lengths=lengths, center=center)
        first = whole(data)
        identical(first, generator.sample(4, seed=2, lengths=lengths, center=center))
        for epoch in range(1, 8):
            data.set_epoch(epoch)
            other = whole(data)
            assert data[5].name == f"generated-0.{epoch}-5"
            assert torch.equal(other.lengths, first.lengths)
            torch.testing.assert_close(other.soft_labels, first.soft_labels, atol=1e-4, rtol=1e-4)
            assert (other.features - first.features).abs().max() > 1e-3
            if lengths == "generator":  # stretched frames weigh otherwise
                torch.testing.assert_close(other.means(), first.means(), atol=1e-4, rtol=1e-4)
        data.set_epoch(8)
        identical(whole(data), first)


def test_means_fixed_sets_and_frames_without_deviations_stay(generator):
    still = tiny_generator(NetworkConfig(architecture="gaussian", noise=10))
    for data in (GeneratedDataset(generator, 4, means=True), GeneratedDataset(generator, 4, resample=False),
                 GeneratedDataset(still, 4)):
        first = data[5].features
        data.set_epoch(3)
        assert data[5].name == "generated-0-5" and torch.equal(data[5].features, first)


@pytest.mark.parametrize("center", [False, True])
def test_a_set_is_drawn_once_an_epoch(generator, drawn, center):
    data = GeneratedDataset(generator, 4, resample=True, center=center)
    for epoch in (2, 3):
        drawn.clear()
        data.set_epoch(epoch), data.set_epoch(epoch)
        for _ in range(2):
            whole(data), data[5]
        assert drawn == [(epoch, index) for index in range(12)]


def test_a_fixed_set_is_drawn_once(generator, drawn):
    data = GeneratedDataset(generator, 4, resample=False)
    assert len(drawn) == 12  # when it is made: worker processes that fork from here share it
    for epoch in (0, 1, 5):
        data.set_epoch(epoch)
        whole(data), data[5]
    assert drawn == [(0, index) for index in range(12)]


@pytest.mark.parametrize(("resample", "means", "budget", "number"), [
    (3, False, 4, 3), (3, True, 4, 3), ("auto", False, 4, 8), ("auto", True, "original", 8), (True, False, 4, 3)])
@pytest.mark.parametrize("room", [True, False])
def test_sets_that_come_again_are_drawn_once(generator, drawn, monkeypatch, resample, means, budget, number, room):
    """Where there is room for all of them, else each time; the samples are the same."""
    size = 4 * 10 * sum(generator.counts(budget)) * (1 if means else 8)
    monkeypatch.setattr(module, "KEPT_BYTES", number * size - (0 if room else 1))
    data = GeneratedDataset(generator, budget, resample=resample, means=means)
    first = []
    for epoch in range(number):
        data.set_epoch(epoch)
        first.append(whole(data))
    once = len(drawn)
    assert once in (number * len(data), 2 * number * len(data))  # centring may take a pass of its own
    for epoch in range(number):
        data.set_epoch(epoch + (0 if resample is True else number))
        identical(whole(data), first[epoch])
    assert len(drawn) == once + (0 if room and resample is not True else once)
    assert len(data.kept) == (number if room and resample is not True else 0)


@pytest.mark.parametrize("resample", [False, 3])
def test_what_is_done_to_an_item_in_place_stays_with_it(generator, resample):
    data = GeneratedDataset(generator, 4, resample=resample)
    data.set_epoch(0)
    first = whole(data)
    for item in data.__getitems__(range(12)):
        item.features.zero_(), item.soft_label.zero_()
    identical(whole(data), first)


def test_a_worker_gets_the_set_that_is_served_alone(generator):
    data = GeneratedDataset(generator, 4, resample=3)
    for epoch in range(3):
        data.set_epoch(epoch)
    copied = pickle.loads(pickle.dumps(data))
    assert len(data.kept) == 3 and not copied.kept
    identical(whole(copied), whole(data))


@pytest.mark.parametrize("center", [False, True])
def test_a_large_set_is_drawn_as_it_is_asked_for(generator, drawn, monkeypatch, center):
    """The same samples; centring takes a pass of its own."""
    expected = generator.sample(4, seed=2, epoch=1, center=center)
    size = 4 * 12 * 8 * 10  # float32 [12, 8, 10]
    for limit, kept in ((size, True), (size - 1, False)):
        monkeypatch.setattr(module, "KEPT_BYTES", limit)
        drawn.clear()
        data = GeneratedDataset(generator, 4, seed=2, resample=True, center=center)
        data.set_epoch(1)
        once = [(1, index) for index in range(12)]
        assert drawn == (once if kept or center else []) and (data.items is not None) == kept
        batch = data.collate(data.__getitems__([3, 11, 3]))
        assert drawn[len(once) if kept or center else 0:] == ([] if kept else [(1, 3), (1, 11), (1, 3)])
        torch.testing.assert_close(batch.features, expected.features[[3, 11, 3]], atol=1e-5, rtol=1e-5)


def test_the_size_of_a_set_counts_its_longest_sample(generator):
    data = GeneratedDataset(generator, 4, lengths="corpus")
    assert 4 * 12 * 10 * 60 <= data.set_bytes() <= 4 * 12 * 10 * 61


def test_a_resampled_set_that_nobody_gave_an_epoch_is_that_of_epoch_0(generator):
    data = GeneratedDataset(generator, 4, seed=2, resample=True)
    identical(whole(data), generator.sample(4, seed=2))


# loaders, workers, ranks


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_stay_serve_the_set_of_each_epoch(generator, method):
    data = GeneratedDataset(generator, 4, seed=9, resample=True)
    loader = DataLoader(data, batch_size=5, num_workers=1, persistent_workers=True, collate_fn=data.collate,
                        multiprocessing_context=method)
    for epoch in range(3):
        data.set_epoch(epoch)
        served = torch.cat([batch.features for batch in loader])
        assert torch.equal(served, generator.sample(4, seed=9, epoch=epoch).features)


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lengths", ["generator", "corpus"])
def test_data_loader(generator, drawn, workers, lengths):
    """Shuffled, with and without workers: every sample once, sample()'s to the bit, and the same again; workers share
    the set that was drawn before they were forked."""
    data = GeneratedDataset(generator, 5, seed=9, resample=True, lengths=lengths)
    expected = generator.sample(5, seed=9, epoch=1, lengths=lengths)
    data.set_epoch(1)
    drawn.clear()
    for _ in range(2):
        loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers, collate_fn=data.collate,
                            generator=torch.Generator().manual_seed(1))
        batches = list(loader)
        assert [len(batch.labels) for batch in batches] == [4, 4, 4, 3]
        order = torch.randperm(15, generator=after_base_seed())
        for batch, indices in zip(batches, order.split(4), strict=True):
            longest = batch.features.shape[1]
            assert torch.equal(batch.features, expected.features[indices][:, :longest])
            assert torch.equal(batch.labels, expected.labels[indices])
            assert torch.equal(batch.lengths, expected.lengths[indices])
            assert torch.equal(batch.soft_labels, expected.soft_labels[indices])
    assert drawn == []


def after_base_seed():
    """The state of the loader's generator when its sampler draws: a loader first takes a seed for its workers."""
    generator = torch.Generator().manual_seed(1)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return generator


def test_a_copy_in_another_process_is_the_same_set():
    """As a spawned worker gets it."""
    data = GeneratedDataset(tiny_generator(), 3, resample=True)
    data.set_epoch(2)
    identical(whole(pickle.loads(pickle.dumps(data))), whole(data))


def test_default_collate(generator):
    features, labels, soft, names = next(iter(DataLoader(GeneratedDataset(generator, 2), batch_size=6)))
    assert features.shape == (6, 8, 10) and labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert soft.shape == (6, 3) and len(names) == 6


def test_distributed_sampler(generator):
    """Two ranks share an epoch's samples; together they are the set that one rank would see."""
    data, seen = GeneratedDataset(generator, 4, seed=2, resample=True), Counter()
    data.set_epoch(3)
    for rank in range(2):
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, seed=1)
        sampler.set_epoch(3)
        for _, _, _, names in DataLoader(data, batch_size=3, sampler=sampler):
            seen.update(names)
    assert seen == Counter(f"generated-3-{index}" for index in range(12))


def test_a_set_too_large_to_keep_takes_points_by_their_place(monkeypatch):
    """Each batch is drawn when it is asked for, and knows where in its class a sample stands."""
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    generator = tiny_generator(NetworkConfig(architecture="points", frames=2), listed=[2, 3, 2])
    with torch.no_grad():
        generator.network.points.copy_(torch.arange(7.0)[:, None, None].expand(-1, 2, 10))
    generator.mean, generator.std = torch.zeros(10), torch.ones(10)
    data = GeneratedDataset(generator, 2, center=False)
    assert data.items is None
    assert [item.features[0, 0].item() for item in data.__getitems__([4, 3, 1])] == [5, 3, 1]
