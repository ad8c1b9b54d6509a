"""The generator file: what it samples, and which files it refuses."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.gauss import CORPUS, FEATURES
from torch.utils.data import DataLoader, DistributedSampler

from s3prl_dd import cli
from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset, Generator, index_labels
from s3prl_dd.generator.calibrate import calibrate, fit_calibration
from s3prl_dd.generator.networks import NetworkConfig, build_generator

LABELS = {"neu": 0, "ang": 1, "sad": 2}


def make(teacher=True, dim=10, **header):
    torch.manual_seed(3)
    config = NetworkConfig(classes=3, dim=dim, frames=8, noise=6, channels=8)
    lengths = [np.linspace(10 * low, 10 * low + 10, 101).tolist() for low in (1, 3, 5)]
    header = {"network": asdict(config), "labels": LABELS, "class_counts": [20, 16, 24], "lengths": lengths, "features": FEATURES,
              "corpus": CORPUS, "training": {"step": 100, "batch": 24, "seed": 0, "framing": "resample", "lambdas": {"diversity": 0.3}},
              "metrics": {"dev_uar": 0.75, "step": 50}, **header}
    heads = (torch.randn(4, 3, dim), torch.randn(4, 3)) if teacher else None
    return Generator(build_generator(config), torch.arange(dim) * 1.0, 1 + torch.rand(dim), torch.randn(3, dim), header, heads)


@pytest.fixture(scope="module")
def generator():
    return make()


@pytest.fixture
def path(tmp_path, generator):
    generator.save(tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


# file


def test_round_trip(generator, path):
    loaded = Generator.load(path)
    header = {key: value for key, value in loaded.header.items() if key not in ("format_version", "precision")}
    assert header == generator.header and loaded.header["format_version"] == 1
    one, other = generator.sample(5, seed=2), loaded.sample(5, seed=2)
    for key, value in vars(one).items():
        assert torch.equal(value, getattr(other, key)), key


def test_file_holds_the_generator_and_nothing_else(generator, path):
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
    assert keys == {f"generator.{key}" for key in generator.network.state_dict()} | {"mean", "std", "class_means",
                    "teacher.weight", "teacher.bias"}


def test_half_precision_file(generator, tmp_path, path):
    generator.save(tmp_path / "half", half=True)
    assert (tmp_path / "half").stat().st_size < 0.75 * path.stat().st_size
    one, half = generator.sample(5), Generator.load(tmp_path / "half").sample(5)
    assert half.features.dtype == torch.float32
    torch.testing.assert_close(half.features, one.features, atol=0.02, rtol=0.01)
    tensors = load_file(tmp_path / "half")
    assert tensors["generator.start.weight"].dtype == torch.float16 and tensors["mean"].dtype == torch.float32


def refused(path, *messages):
    with pytest.raises(UserError) as caught:
        Generator.load(path)
    assert str(path) in str(caught.value) and all(message in str(caught.value) for message in messages), caught.value


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_truncated_file_is_refused(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[:int(kept * len(data)) if isinstance(kept, float) else kept])
    refused(path, "not a whole safetensors file", "distil anew")


def test_missing_and_foreign_files_are_refused(tmp_path):
    refused(tmp_path / "nothing", "no such generator file")
    refused(tmp_path, "no such generator file")
    (tmp_path / "text").write_text("a text file, long enough to hold a header's length in its first bytes")
    refused(tmp_path / "text", "not a whole safetensors file")
    torch.save({"a": torch.zeros(3)}, tmp_path / "pickle")
    refused(tmp_path / "pickle", "not a whole safetensors file")
    save_file({"a": torch.zeros(3)}, tmp_path / "other")
    refused(tmp_path / "other", "not a generator of s3prl_dd")


def rewritten(path, change):
    """The file at `path` with change(tensors, header) applied."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["s3prl_dd"])
    tensors = load_file(path)
    change(tensors, header)
    save_file(tensors, path, metadata={"s3prl_dd": header if isinstance(header, str) else json.dumps(header)})


@pytest.mark.parametrize("change, messages", [
    (lambda tensors, header: header.update(format_version=2), ("format version 2, this s3prl_dd reads 1",)),
    (lambda tensors, header: header.pop("format_version"), ("format version None",)),
    (lambda tensors, header: header["network"].update(channels=12), ("do not fit",)),
    (lambda tensors, header: header["network"].update(architecture="gan_9d"), ("do not fit", "gan_9d")),
    (lambda tensors, header: header["network"].update(strange=1), ("do not fit", "strange")),
    (lambda tensors, header: tensors.pop("mean"), ("do not fit", "mean")),
    (lambda tensors, header: tensors.pop("generator.start.weight"), ("do not fit", "start.weight")),
    (lambda tensors, header: header.pop("lengths"), ("lacks lengths",)),
])
def test_file_whose_parts_do_not_fit_is_refused(path, change, messages):
    rewritten(path, change)
    refused(path, *messages)


def test_broken_header_is_refused(path):
    save_file(load_file(path), path, metadata={"s3prl_dd": '{"format_version": 1,'})
    refused(path, "header does not parse")


def test_loading_runs_no_code(path, tmp_path):
    """A pickle that would run code is not even opened."""
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save(Bomb(), tmp_path / "bomb")
    refused(tmp_path / "bomb", "not a whole safetensors file")
    assert not (tmp_path / "exploded").exists()


# samples


def test_shapes_and_units(generator):
    samples = generator.sample({"counts": [2, 3, 1]})
    assert samples.features.shape == (6, 8, 10) and samples.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert samples.lengths.tolist() == [8] * 6
    torch.testing.assert_close(samples.soft_labels.sum(dim=1), torch.ones(6))
    noise = torch.from_numpy(np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 4, 0])).standard_normal(6, dtype=np.float32))
    expected = generator.network(noise[None], torch.tensor([1]))[0] * generator.std + generator.mean
    torch.testing.assert_close(samples.features[4], expected)


def test_soft_labels_are_the_mean_softmax_of_the_heads(generator):
    samples = generator.sample(2)
    weight, bias = generator.teacher
    for mean, soft in zip(samples.features.mean(dim=1), samples.soft_labels):
        torch.testing.assert_close(soft, sum((weight[m] @ mean + bias[m]).softmax(0) for m in range(4)) / 4)
    assert make(teacher=False).sample(2).soft_labels is None


def test_sample_depends_on_seed_epoch_and_number_alone(generator):
    """Whatever the batch: equal to 1e-5 (matrix products of other sizes round differently), in the same batch to the bit."""
    whole = generator.sample(20, seed=3, epoch=2)
    assert torch.equal(whole.features, generator.sample(20, seed=3, epoch=2).features)
    torch.testing.assert_close(generator.sample(20, seed=3, epoch=2, batch_size=7).features, whole.features, atol=1e-5, rtol=1e-5)
    picked = generator.generate(whole.labels[[41, 5]], [41, 5], seed=3, epoch=2)
    torch.testing.assert_close(picked.features, whole.features[[41, 5]], atol=1e-5, rtol=1e-5)
    for seed, epoch in ((4, 2), (3, 3), (2, 3)):
        assert (generator.sample(20, seed=seed, epoch=epoch).features - whole.features).abs().amax(dim=(1, 2)).min() > 1e-3
    assert len(whole.features.flatten(1).unique(dim=0)) == 60


def test_noise_is_standard_normal_and_independent(generator):
    noise = np.stack([np.random.Generator(np.random.Philox(key=0, counter=[0, 0, i, 0])).standard_normal(100) for i in range(400)])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs(np.corrcoef(noise)[np.triu_indices(400, 1)]).max() < 0.5


@pytest.mark.parametrize("budget, counts", [
    (3, [3, 3, 3]), ({"ppc": 2}, [2, 2, 2]), ("balanced", [20] * 3), ("original", [20, 16, 24]), ({"total": 15}, [5, 4, 6]),
    ({"counts": [1, 7, 2]}, [1, 7, 2])])
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
    for frames, length in zip(samples.features, samples.lengths):
        assert (frames[length:] == 0).all() and (frames[:length] != 0).any(dim=1).all()
    plain = generator.sample(40, seed=1)  # the same samples, stretched
    torch.testing.assert_close(samples.soft_labels, plain.soft_labels)
    assert (samples.features[7, :samples.lengths[7]].mean(dim=0) - plain.features[7].mean(dim=0)).abs().max() < 0.2
    batches = generator.sample(40, seed=1, lengths="corpus", batch_size=9)
    assert torch.equal(batches.lengths, samples.lengths)
    with pytest.raises(UserError, match="'generator' or 'corpus'"):
        generator.sample(1, lengths="long")


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


def test_calibration_gives_the_real_class_means_and_covariance():
    """On the samples it was fitted on; the covariance up to the ridge. Within the utterance nothing changes."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(900) % 3
    real = torch.randn(900, 6, generator=rng) @ (torch.eye(6) + 0.3 * torch.randn(6, 6, generator=rng)) + 5 * labels[:, None]
    frames = torch.randn(900, 4, 6, generator=rng) * torch.linspace(0.8, 1.2, 6) - labels[:, None, None]
    calibrated = calibrate(frames, labels, fit_calibration(real, labels, frames.mean(dim=1), labels))
    within = []
    for side in (calibrated.mean(dim=1), real):
        centers = torch.stack([side[labels == label].mean(dim=0) for label in range(3)])
        within.append((centers, np.cov((side - centers[labels]).T.numpy())))
    torch.testing.assert_close(within[0][0], within[1][0], atol=1e-4, rtol=0)
    assert np.abs(within[0][1] - within[1][1]).max() < 0.1 * np.abs(within[1][1]).max()
    torch.testing.assert_close(calibrated - calibrated.mean(dim=1, keepdim=True), frames - frames.mean(dim=1, keepdim=True), atol=1e-4, rtol=0)


def test_calibration_is_in_the_file(tmp_path):
    generator = make()
    plain = generator.sample(4)
    generator.calibration = (2 * torch.eye(10), torch.randn(3, 10), torch.randn(3, 10))
    generator.save(tmp_path / "file")
    samples = Generator.load(tmp_path / "file").sample(4)
    assert torch.equal(samples.features, generator.sample(4).features)
    mean, (_, generated, real) = plain.features.mean(dim=1), generator.calibration
    torch.testing.assert_close(samples.features.mean(dim=1), 2 * (mean - generated[plain.labels]) + real[plain.labels])


# dataset


def test_dataset_items(generator):
    data = GeneratedDataset(generator, {"counts": [2, 1, 2]}, seed=4)
    samples = generator.sample({"counts": [2, 1, 2]}, seed=4)
    assert len(data) == 5
    for index in range(5):
        features, label, soft, name = data[index]
        torch.testing.assert_close(features, samples.features[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(soft, samples.soft_labels[index])
        assert label == samples.labels[index] and name == f"generated-0-{index}"
    for index in (5, -1):
        with pytest.raises(IndexError):
            data[index]
    assert GeneratedDataset(make(teacher=False), 1)[0][2] is None


def test_epochs_are_new_draws_or_one_fixed_set(generator):
    new, fixed = (GeneratedDataset(generator, 2, resample=resample) for resample in (True, False))
    first = [data[3][0] for data in (new, fixed)]
    new.set_epoch(1), fixed.set_epoch(1)
    assert not torch.equal(new[3][0], first[0]) and torch.equal(fixed[3][0], first[1])
    new.set_epoch(0)
    assert torch.equal(new[3][0], first[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lengths", ["generator", "corpus"])
def test_data_loader(generator, workers, lengths):
    """Shuffled, with and without workers: every sample once, equal to sample()'s, and the same again."""
    data = GeneratedDataset(generator, 5, seed=9, lengths=lengths)
    whole = generator.sample(5, seed=9, epoch=1, lengths=lengths)
    data.set_epoch(1)
    passes = []
    for _ in range(2):
        loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers, collate_fn=data.collate,
                            generator=torch.Generator().manual_seed(1))
        passes.append(list(loader))
    assert [len(batch.labels) for batch in passes[0]] == [4, 4, 4, 3]
    order = torch.randperm(15, generator=after_base_seed())
    for position, batch in enumerate(passes[0]):
        again = passes[1][position]
        for key, value in vars(batch).items():
            assert torch.equal(value, getattr(again, key)), key
        for row, index in enumerate(order[4 * position:4 * position + 4]):
            length = whole.lengths[index]
            assert batch.labels[row] == whole.labels[index] and batch.lengths[row] == length
            torch.testing.assert_close(batch.features[row, :length], whole.features[index, :length], atol=1e-5, rtol=1e-5)


def after_base_seed():
    """The state of the loader's generator when its sampler draws: a loader first takes a seed for its workers."""
    generator = torch.Generator().manual_seed(1)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return generator


def test_default_collate(generator):
    features, labels, soft, names = next(iter(DataLoader(GeneratedDataset(generator, 2), batch_size=6)))
    assert features.shape == (6, 8, 10) and labels.tolist() == [0, 0, 1, 1, 2, 2] and soft.shape == (6, 3) and len(names) == 6


def test_distributed_sampler(generator):
    """Two ranks share an epoch's samples; together they are the set that one rank would see."""
    data, seen = GeneratedDataset(generator, 4, seed=2), Counter()
    data.set_epoch(3)
    for rank in range(2):
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, seed=1)
        sampler.set_epoch(3)
        for _, _, _, names in DataLoader(data, batch_size=3, sampler=sampler):
            seen.update(names)
    assert seen == Counter(f"generated-3-{index}" for index in range(12))


# commands


def test_write_samples(path, tmp_path, capsys):
    out = tmp_path / "samples.safetensors"
    assert cli.main(["sample", str(path), "--out", str(out), "--budget", "{total: 15}", "--seed", "3", "--lengths", "corpus", "--no-center"]) == 0
    tensors, expected = load_file(out), Generator.load(path).sample({"total": 15}, 3, lengths="corpus")
    for key, value in vars(expected).items():
        assert torch.equal(tensors[key], value), key
    with safe_open(out, "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
    assert about == {"labels": LABELS, "budget": {"total": 15}, "seed": 3, "center": False, "features": FEATURES}
    assert "15 samples, [5, 4, 6] a class" in capsys.readouterr().out


def test_inspect(path, capsys):
    assert cli.main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    for text in ("gan_1d", "samples of [8, 10]", "60 utterances of gauss (neu 20, ang 16, sad 24)", "fold1; test speakers s0",
                 "made -s hidden_states", "layer weights 0.25 0.75", "320 samples a frame", "4 linear heads", "step 100", "diversity 0.3",
                 "dev_uar 0.750", "float32", "format 1"):
        assert text in told, text
    assert cli.main(["inspect", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == path.stat().st_size and told["class_counts"] == [20, 16, 24]


def test_errors_of_the_command(tmp_path, path, capsys):
    assert cli.main(["inspect", str(tmp_path / "none")]) == 2
    assert "s3prl-dd: error:" in capsys.readouterr().err
    assert cli.main(["sample", str(path), "--out", str(tmp_path / "s"), "--budget", "plenty"]) == 2
    assert "plenty" in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_index_labels():
    assert index_labels([2, 0, 3]).tolist() == [0, 0, 2, 2, 2]


# centring


def test_a_centred_set_has_the_files_class_means(generator):
    samples = generator.sample({"counts": [2, 3, 9]}, seed=4, center=True, batch_size=5)
    plain = generator.sample({"counts": [2, 3, 9]}, seed=4)
    for label in range(3):
        here = samples.labels == label
        assert torch.allclose(samples.features[here].mean(dim=(0, 1)), generator.class_means[label], atol=1e-4)
        moved = samples.features[here] - plain.features[here]  # all samples of a class by one vector, in every frame
        assert torch.allclose(moved, moved[:1, :1].expand_as(moved), atol=1e-4)
    assert torch.allclose(samples.soft_labels, generator.soften(samples.features.mean(dim=1)), atol=1e-4)


def test_a_centred_dataset_is_the_centred_set_and_repeats(generator):
    data = GeneratedDataset(generator, 4, seed=2, resample=True, center=True)
    for epoch in (3, 0):
        data.set_epoch(epoch)
        expected = generator.sample(4, seed=2, epoch=epoch, center=True)
        shuffled = data.__getitems__([11, 0, 5])
        assert all(torch.allclose(item[0], expected.features[i], atol=1e-4) for item, i in zip(shuffled, (11, 0, 5)))
    fixed = GeneratedDataset(generator, 4, seed=2, resample=False, center=True)
    first = fixed[3][0]
    fixed.set_epoch(7)
    assert torch.equal(fixed[3][0], first)


def test_a_fixed_set_is_drawn_once(generator, monkeypatch):
    calls, generate = [], generator.generate
    monkeypatch.setattr(generator, "generate", lambda labels, indices, *rest: calls.append(list(indices)) or generate(labels, indices, *rest))
    fixed, new = (GeneratedDataset(generator, 4, seed=2, resample=resample) for resample in (False, True))
    first = fixed.__getitems__([3, 1])
    again = fixed.__getitems__([1, 5, 3, 5])
    assert calls == [[3, 1], [5]] and torch.equal(again[0][0], first[1][0]) and torch.equal(again[1][0], again[3][0])
    new.__getitems__([3]), new.__getitems__([3])
    assert calls[2:] == [[3], [3]]
    monkeypatch.setattr("s3prl_dd.generator.dataset.KEPT_BYTES", 100)
    small = GeneratedDataset(generator, 4, seed=2, resample=False)
    small.__getitems__([3]), small.__getitems__([3])
    assert calls[4:] == [[3], [3]] and not small.kept
