"""The generator file: whole ones load, damaged ones are refused in one line, at once."""

import json
import random
import struct
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tiny_generator import LABELS, rewrite, tiny_generator, tiny_suppression

from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator, NetworkConfig, read_header
from s3prl_dd.generator.inspect import described

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small file with all parts."""
    path = tmp_path_factory.mktemp("whole") / "generator.safetensors"
    tiny_generator(calibration=True, points=4, suppression=tiny_suppression()).save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, whole):
    """A file of one's own."""
    (tmp_path / "generator.safetensors").write_bytes(whole)
    return tmp_path / "generator.safetensors"


# whole files


def test_round_trip(tmp_path):
    generator = tiny_generator(calibration=True, points=4, suppression=tiny_suppression())
    generator.save(tmp_path / "file")
    loaded = Generator.load(tmp_path / "file")
    assert torch.equal(loaded.points, generator.points)
    assert all(map(torch.equal, loaded.suppression, generator.suppression))
    assert loaded.header == generator.header == read_header(tmp_path / "file")
    one, other = generator.sample(5, seed=2), loaded.sample(5, seed=2)
    for key, value in vars(one).items():
        assert torch.equal(value, getattr(other, key)), key
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


def test_a_file_of_former_names_reads_the_same(path):
    """Of development versions, which called speaker suppression a disguise."""
    expected = Generator.load(path)
    names = {f"disguise.{part}": f"suppression.{part}" for part in ("away", "along", "middle")}
    rewrite(path, tensors=lambda tensors: tensors.update({former: tensors.pop(name) for former, name in names.items()}))
    assert names.keys() <= load_file(path).keys() and not any("suppression" in name for name in load_file(path))
    assert described(path)["speakers"] == "suppressed in 2 directions, for heads too"
    found = Generator.load(path)
    assert all(map(torch.equal, found.suppression, expected.suppression))
    assert torch.equal(found.sample(5).features, expected.sample(5).features)
    found.save(path)
    assert set(names.values()) <= load_file(path).keys() and not any("disguise" in name for name in load_file(path))


def test_file_holds_the_generator_and_nothing_else(tmp_path):
    generator = tiny_generator()
    generator.save(tmp_path / "file")
    with safe_open(tmp_path / "file", "pt") as file:
        assert set(file.metadata()) == {"s3prl_dd"}
        assert set(file.keys()) == {f"generator.{key}" for key in generator.network.state_dict()} | {
            "mean", "std", "class_means", "teacher.weight", "teacher.bias"}


def test_half_precision_file(tmp_path):
    generator = tiny_generator()
    generator.save(tmp_path / "whole")
    generator.save(tmp_path / "half", half=True)
    assert (tmp_path / "half").stat().st_size < 0.75 * (tmp_path / "whole").stat().st_size
    one, half = generator.sample(5), Generator.load(tmp_path / "half").sample(5)
    assert half.features.dtype == torch.float32
    torch.testing.assert_close(half.features, one.features, atol=0.02, rtol=0.01)
    tensors = load_file(tmp_path / "half")
    assert tensors["generator.start.weight"].dtype == torch.float16 and tensors["mean"].dtype == torch.float32


def test_loading_leaves_random_states_alone(path):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    Generator.load(path)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all() and random.random() == expected[2]


def test_a_loaded_generator_outlives_its_file(path):
    """Its weights are memory of its own, not a map of the file."""
    generator = Generator.load(path)
    before = generator.sample(2)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(generator.sample(2).features, before.features)


# what is not written


def test_what_could_not_be_read_is_not_written(tmp_path):
    for part, message in (("std", "tensor std"), ("mean", "tensor mean has values that are not finite")):
        generator = tiny_generator()
        getattr(generator, part)[3] = NAN
        with pytest.raises(UserError, match=message):
            generator.save(tmp_path / "file")
    generator = tiny_generator()
    generator.class_means = generator.class_means[:2]
    with pytest.raises(UserError, match="class_means has shape"):
        generator.save(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_float16_are_not_written_as_such(tmp_path):
    generator = tiny_generator()
    generator.network.start.bias[0] = 1e5
    with pytest.raises(UserError, match="generator.start.bias has values that are not finite.*store float32"):
        generator.save(tmp_path / "half", half=True)
    generator.save(tmp_path / "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["whole"]


# damaged files: each is a function that spoils the file at a path


def data(change):
    """change(bytes) -> bytes"""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def text(value):
    """Another text in place of the header's."""
    return lambda path: rewrite(path, text=value)


def table(change):
    """change(JSON) of safetensors' own table of tensors."""
    def spoil(path):
        whole = path.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        entries = json.loads(whole[8:8 + size])
        change(entries)
        new = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + size:])
    return spoil


def put(where, value):
    """Set a value in the header; `where` with dots, numbers are places in a list."""
    *outer, last = [int(key) if key.isdigit() else key for key in where.split(".")]

    def change(values):
        for key in outer:
            values = values[key]
        values[last] = value
    return lambda path: rewrite(path, header=change)


def drop(where):
    """Remove a key of the header."""
    *outer, last = where.split(".")

    def change(values):
        for key in outer:
            values = values[key]
        del values[last]
    return lambda path: rewrite(path, header=change)


def value(name, number):
    """Set a tensor's first number."""
    def change(tensors):
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[0] = number
    return lambda path: rewrite(path, tensors=change)


def shape(name, change):
    """change(tensor) -> the tensor in its place; None removes it."""
    def spoil(tensors):
        tensor = tensors.pop(name, None)
        new = change(tensor)
        if new is not None:
            tensors[name] = new
    return lambda path: rewrite(path, tensors=spoil)


def foreign(path):
    save_file({"a": torch.zeros(3)}, path)


def pickled(path):
    torch.save({"mean": torch.zeros(3)}, path)


WEIGHT, SPREAD = "generator.body.0.linear.weight", "generator.body.1.running_var"
LENGTHS = [[5.0] * 101] * 3

DAMAGED = {
    # the file
    "empty": (data(lambda whole: b""), "not a whole safetensors file"),
    "four bytes": (data(lambda whole: whole[:4]), "not a whole safetensors file"),
    "cut in the table": (data(lambda whole: whole[:100]), "not a whole safetensors file"),
    "cut in half": (data(lambda whole: whole[:len(whole) // 2]), "not a whole safetensors file"),
    "last byte gone": (data(lambda whole: whole[:-1]), "not a whole safetensors file"),
    "bytes behind": (data(lambda whole: whole + b"1234"), "not a whole safetensors file"),
    "huge table": (data(lambda whole: struct.pack("<Q", 2**62) + whole[8:]), "not a whole safetensors file"),
    "zeros": (data(lambda whole: bytes(len(whole))), "not a whole safetensors file"),
    "a text": (data(lambda whole: b"a text, long enough to hold a length"), "not a whole safetensors file"),
    "a pickle": (pickled, "not a whole safetensors file"),
    "another's safetensors": (foreign, "not a generator of s3prl_dd"),
    "no metadata": (table(lambda entries: entries.pop("__metadata__")), "not a generator of s3prl_dd"),
    "another's metadata": (table(lambda entries: entries.update(__metadata__={"format": "pt"})), "not a generator"),
    "huge shape in the table": (table(lambda entries: entries["mean"].update(shape=[2**40])), "not a whole"),
    # the header as text
    "no text": (text(""), "header does not parse"),
    "cut text": (text('{"format_version": 1,'), "header does not parse"),
    "deep text": (text("[" * 100_000), "header does not parse"),
    "null": (text("null"), "header is null, expected a JSON object"),
    "a list": (text("[1]"), "header is a list"),
    "a string": (text('"format_version"'), "header is a string"),
    "a number": (text("1"), "header is a number"),
    "true": (text("true"), "header is true or false"),
    "an empty object": (text("{}"), "format version None"),
    "nothing but a version": (text('{"format_version": 1}'), "lacks network, labels, class_counts, lengths, features"),
    # its version
    "version 0": (put("format_version", 0), "format version 0, this s3prl_dd reads 1"),
    "version 2": (put("format_version", 2), "format version 2, this s3prl_dd reads 1"),
    "version as text": (put("format_version", "1"), "format version '1', this s3prl_dd reads 1"),
    "version null": (put("format_version", None), "format version None"),
    "version a list": (put("format_version", list(range(10_000))), r"format version \[0, 1"),
    "no version": (drop("format_version"), "format version None"),
    # keys
    "no network": (drop("network"), "lacks network"),
    "no labels": (drop("labels"), "lacks labels"),
    "no class counts": (drop("class_counts"), "lacks class_counts"),
    "no lengths": (drop("lengths"), "lacks lengths"),
    "no features": (drop("features"), "lacks features"),
    "no corpus": (drop("corpus"), "lacks corpus"),
    "no classes": (drop("network.classes"), "lacks network.classes"),
    "no dim": (drop("network.dim"), "lacks network.dim"),
    "no layer weights": (drop("features.layer_weights"), "lacks features.layer_weights"),
    "no rate": (drop("features.rate"), "lacks features.rate"),
    "no speakers": (drop("corpus.train_speakers"), "lacks corpus.train_speakers"),
    "a strange key": (put("strange", 1), "unknown key 'strange'"),
    "a strange size": (put("network.strange", 1), "unknown key 'network.strange'"),
    "a misspelt size": (put("network.channel", 8), "Did you mean 'channels'"),
    # labels and class counts
    "labels a list": (put("labels", ["neu", "ang", "sad"]), "labels"),
    "labels null": (put("labels", None), "labels"),
    "labels as text": (put("labels", {"neu": "0", "ang": "1", "sad": "2"}), "labels.neu"),
    "labels from 1": (put("labels", {"neu": 1, "ang": 2, "sad": 3}), "labels: expected the indices 0 to 2"),
    "labels twice": (put("labels", {"neu": 0, "ang": 0, "sad": 2}), "labels: expected the indices 0 to 2"),
    "a label too many": (put("labels", {**LABELS, "joy": 3}), "labels: expected the indices 0 to 2"),
    "a label too few": (put("labels", {"neu": 0, "ang": 1}), "labels: expected the indices 0 to 2"),
    "a label that is no text": (text('{"format_version": 1, "labels": {"\\ud800": 0}}'), "header"),
    "class counts too few": (put("class_counts", [20, 16]), "class_counts: expected one for each of the 3"),
    "class counts too many": (put("class_counts", [20, 16, 24, 8]), "class_counts: expected one for each of the 3"),
    "a class of none": (put("class_counts.1", 0), "class_counts.1"),
    "a class below none": (put("class_counts.1", -3), "class_counts.1"),
    "half an utterance": (put("class_counts.1", 16.5), "class_counts.1"),
    "a count as text": (put("class_counts.1", "16"), "class_counts.1"),
    "a count of true": (put("class_counts.1", True), "class_counts.1"),
    "a huge count": (put("class_counts.1", 10**30), "class_counts.1"),
    "counts by name": (put("class_counts", {"neu": 20, "ang": 16, "sad": 24}), "class_counts"),
    # lengths
    "lengths of two classes": (put("lengths", LENGTHS[:2]), "lengths: expected one for each of the 3"),
    "lengths of four classes": (put("lengths", [*LENGTHS, LENGTHS[0]]), "lengths: expected one for each of the 3"),
    "100 percentiles": (put("lengths.1", [5.0] * 100), "lengths.1"),
    "102 percentiles": (put("lengths.1", [5.0] * 102), "lengths.1"),
    "one list of lengths": (put("lengths", [5.0] * 101), "lengths.0"),
    "a length NaN": (put("lengths.1.7", NAN), "lengths.1.7"),
    "a length infinite": (put("lengths.1.100", INF), "lengths.1.100"),
    "a length below 0": (put("lengths.1.0", -1.0), "lengths.1.0"),
    "lengths that fall": (put("lengths.1.50", 1.0), "lengths.1: expected percentiles that do not fall"),
    "lengths as text": (put("lengths.1", ["5"] * 101), "lengths.1.0"),
    "lengths null": (put("lengths", None), "lengths"),
    # provenance
    "a layer weight NaN": (put("features.layer_weights", [NAN, 0.5]), "features.layer_weights.0"),
    "a layer weight below 0": (put("features.layer_weights", [-0.5, 1.5]), "features.layer_weights.0"),
    "no layer has a weight": (put("features.layer_weights", []), "features.layer_weights"),
    "layer weights a number": (put("features.layer_weights", 0.5), "features.layer_weights"),
    "another dim": (put("features.dim", 11), "features.dim: expected network.dim 10, found 11"),
    "rate 0": (put("features.rate", 0), "features.rate"),
    "rate below 0": (put("features.rate", -320), "features.rate"),
    "rate as text": (put("features.rate", "320"), "features.rate"),
    "normalize as text": (put("features.normalize", "no"), "features.normalize"),
    "a layer as text": (put("features.layer", "last"), "features.layer"),
    "upstream null": (put("features.upstream", None), "features.upstream"),
    "features a list": (put("features", ["made"]), "features"),
    "speakers as one text": (put("corpus.train_speakers", "s1 s2"), "corpus.train_speakers"),
    # the network
    "another architecture": (put("network.architecture", "gan_9d"), "network.architecture"),
    "a GAN as another one": (put("network.architecture", "gan_cnn"), "lacks the tensor"),
    "a GAN as a Gaussian": (put("network.architecture", "gaussian"), "lacks the tensor generator.factor"),
    "other channels": (put("network.channels", 12), "shape"),
    "channels at the limit": (put("network.channels", 65536), "shape"),
    "huge channels": (put("network.channels", 10**9), "network.channels"),
    "no channels": (put("network.channels", 0), "network.channels"),
    "channels NaN": (put("network.channels", NAN), "network.channels"),
    "channels as text": (put("network.channels", "8"), "network.channels"),
    "half a channel": (put("network.channels", 8.5), "network.channels"),
    "frames between": (put("network.frames", 6), "frames: expected a multiple of 4"),
    "other frames": (put("network.frames", 16), "shape"),
    "huge frames": (put("network.frames", 100_000), "network.frames"),
    "an even kernel": (put("network.kernel", 4), "kernel: expected an odd number"),
    "another kernel": (put("network.kernel", 5), "shape"),
    "other noise": (put("network.noise", 65536), "shape"),
    "one class": (put("network.classes", 1), "network.classes"),
    "more classes": (put("network.classes", 4), "labels: expected the indices 0 to 3"),
    "a branch that is not there": (put("network.utterance_branch", True), "lacks the tensor generator.utterance"),
    "another precision": (put("precision", "int8"), "precision"),
    "training a list": (put("training", [1]), "training"),
    "metrics null": (put("metrics", None), "metrics"),
    # tensors that are missing, too many or of another kind
    "no mean": (shape("mean", lambda tensor: None), "lacks the tensor mean"),
    "no class means": (shape("class_means", lambda tensor: None), "lacks the tensor class_means"),
    "no weight": (shape(WEIGHT, lambda tensor: None), f"lacks the tensor {WEIGHT}"),
    "no teacher's bias": (shape("teacher.bias", lambda tensor: None), "lacks the tensor teacher.bias"),
    "no teacher's weight": (shape("teacher.weight", lambda tensor: None), "lacks the tensor teacher.weight"),
    "no matrix": (shape("calibration.matrix", lambda tensor: None), "lacks the tensor calibration.matrix"),
    "no real means": (shape("calibration.real", lambda tensor: None), "lacks the tensor calibration.real"),
    "a strange tensor": (shape("extra", lambda tensor: torch.zeros(3)), "tensor 'extra'"),
    "a strange layer": (shape("generator.extra", lambda tensor: torch.zeros(3)), "tensor 'generator.extra'"),
    "a strange part": (shape("calibration.extra", lambda tensor: torch.zeros(3)), "tensor 'calibration.extra'"),
    "mean too long": (shape("mean", lambda tensor: torch.zeros(11)), "tensor mean has shape"),
    "mean a number": (shape("mean", lambda tensor: torch.tensor(1.0)), "tensor mean has shape"),
    "std too short": (shape("std", lambda tensor: torch.ones(9)), "tensor std has shape"),
    "class means turned": (shape("class_means", lambda tensor: tensor.T), "tensor class_means has shape"),
    "a teacher of another dim": (shape("teacher.weight", lambda tensor: tensor[:, :, :9]), "tensor teacher.weight has"),
    "a teacher of no heads": (shape("teacher.weight", lambda tensor: tensor[:0]), "tensor teacher.weight has shape"),
    "a teacher of one matrix": (shape("teacher.weight", lambda tensor: tensor[0]), "teacher.weight has shape"),
    "a teacher's number": (shape("teacher.weight", lambda tensor: torch.tensor(1.0)), "teacher.weight has shape"),
    "a bias of other heads": (shape("teacher.bias", lambda tensor: tensor[:2]), "tensor teacher.bias has shape"),
    "matrix not square": (shape("calibration.matrix", lambda tensor: tensor[:, :9]), "calibration.matrix has shape"),
    "real means turned": (shape("calibration.real", lambda tensor: tensor.T), "calibration.real has shape"),
    "points of another class": (shape("learnt_points", lambda tensor: tensor[:2]), "learnt_points has shape"),
    "points of another dim": (shape("learnt_points", lambda tensor: tensor[:, :, :9]), "learnt_points has shape"),
    "no point": (shape("learnt_points", lambda tensor: tensor[:, :0]), "learnt_points has shape"),
    "points of one list": (shape("learnt_points", lambda tensor: tensor[0]), "learnt_points has shape"),
    "whole numbers": (shape(WEIGHT, lambda tensor: tensor.long()), f"tensor {WEIGHT} is I64"),
    "truths": (shape("mean", lambda tensor: tensor > 0), "tensor mean is BOOL"),
    "double precision": (shape("mean", lambda tensor: tensor.double()), "tensor mean is F64"),
    # values
    "a mean NaN": (value("mean", NAN), "tensor mean has values that are not finite"),
    "a std infinite": (value("std", INF), "tensor std has values that are not finite"),
    "a class mean NaN": (value("class_means", NAN), "tensor class_means has values that are not finite"),
    "a weight NaN": (value(WEIGHT, NAN), f"tensor {WEIGHT} has values that are not finite"),
    "a weight infinite": (value(WEIGHT, -INF), f"tensor {WEIGHT} has values that are not finite"),
    "a running mean NaN": (value("generator.body.1.running_mean", NAN), "running_mean has values that are not finite"),
    "a running variance below 0": (value(SPREAD, -0.1), "running_var has a variance below 0"),
    "a teacher's weight NaN": (value("teacher.weight", NAN), "tensor teacher.weight has values that are not finite"),
    "a teacher's bias infinite": (value("teacher.bias", INF), "tensor teacher.bias has values that are not finite"),
    "a learnt point NaN": (value("learnt_points", NAN), "tensor learnt_points has values that are not finite"),
    "a matrix NaN": (value("calibration.matrix", NAN), "tensor calibration.matrix has values that are not finite"),
    "a generated mean NaN": (value("calibration.generated", NAN), "calibration.generated has values"),
    "a real mean infinite": (value("calibration.real", INF), "calibration.real has values that are not finite"),
    "std 0": (value("std", 0.0), "std has a spread that is not above 0"),
    "std below 0": (value("std", -1.0), "std has a spread that is not above 0"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_at_once(path, damage):
    spoil, message = DAMAGED[damage]
    spoil(path)
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        Generator.load(path)
    assert time.monotonic() - start < 1
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < len(str(path)) + 500
    assert "distil anew" in line or "no s3prl_dd header" in line


def test_files_that_are_not_there_are_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        for read in (Generator.load, read_header):
            with pytest.raises(UserError, match=f"{path}: no such generator file"):
                read(path)


def test_loading_runs_no_code(tmp_path):
    """A pickle that would run code is not even opened."""
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save(Bomb(), tmp_path / "bomb")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Generator.load(tmp_path / "bomb")
    assert not (tmp_path / "exploded").exists()


def test_huge_networks_are_refused_at_once_by_every_architecture(path):
    for architecture in ("gan_1d", "gan_cnn", "gan_att", "gaussian"):
        huge = {"architecture": architecture, "frames": 4096, "channels": 65536, "noise": 65536, "kernel": 31}
        rewrite(path, header=lambda values, huge=huge: values["network"].update(huge))
        start = time.monotonic()
        with pytest.raises(UserError, match="tensor"):
            Generator.load(path)
        assert time.monotonic() - start < 1


# harmless changes


def reversed_keys(path):
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["s3prl_dd"])
    rewrite(path, text=json.dumps(dict(reversed(values.items()))))


def indented(path):
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["s3prl_dd"])
    rewrite(path, text=json.dumps(values, indent=2))


def without(*parts):
    """Without the tensors whose names begin so."""
    def change(tensors):
        for name in [name for name in tensors if name.startswith(parts)]:
            del tensors[name]
    return lambda path: rewrite(path, tensors=change)


def latents(values=None):
    """With the tensor `latents`, as files of a development version have it, which nothing reads."""
    values = torch.ones(3, 4, 6) if values is None else values
    return lambda path: rewrite(path, tensors=lambda tensors: tensors.update(latents=values))


def more_metadata(entries):
    entries["__metadata__"].update(format="pt", note="mine")


HARMLESS = {
    "nothing": lambda path: None,
    "keys in another order": reversed_keys,
    "a header with line breaks": indented,
    "tensors in another order": table(lambda entries: entries.update(mean=entries.pop("mean"))),
    "more metadata": table(more_metadata),
    "whole lengths": put("lengths", [list(range(101))] * 3),
    "one length for all": put("lengths", LENGTHS),
    "no training": drop("training"),
    "no metrics": drop("metrics"),
    "no S3PRL version": drop("features.s3prl"),
    "no precision": drop("precision"),
    "a metric NaN": put("metrics.dev_uar", NAN),
    "other training": put("training", {"made": ["by", "hand"]}),
    "labels in another order": put("labels", {"sad": 2, "neu": 0, "ang": 1}),
    "labels of any alphabet": put("labels", {"平静": 0, "ärgerlich": 1, "triste": 2}),
    "one utterance a class": put("class_counts", [1, 1, 1]),
    "one layer": lambda path: (put("features.layer_weights", None)(path), put("features.layer", -1)(path)),
    "whole layer weights": put("features.layer_weights", [0, 1]),
    "no teacher": without("teacher."),
    "no calibration": without("calibration."),
    "neither": without("teacher.", "calibration."),
    "no learnt points": without("learnt_points"),
    "one learnt point": shape("learnt_points", lambda tensor: tensor[:, :1]),
    "one head": lambda path: rewrite(path, tensors=lambda tensors: tensors.update(
        {name: tensors[name][:1] for name in ("teacher.weight", "teacher.bias")})),
    "latents of a development version": latents(),
    "latents of any shape and value": latents(torch.full((2,), NAN)),
    "a weight in half precision": shape(WEIGHT, lambda tensor: tensor.half()),
    "a running variance of 0": value(SPREAD, 0.0),
    "nobody was tested": put("corpus.test_speakers", []),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_harmless_changes_still_load(path, change):
    HARMLESS[change](path)
    samples = Generator.load(path).sample(2, lengths="corpus")
    assert samples.features.isfinite().all() and samples.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (samples.soft_labels is None) == (change in ("no teacher", "neither"))


def test_latents_of_a_development_version_change_no_sample(path, tmp_path):
    expected = Generator.load(path).sample(5, seed=2)
    latents()(path)
    generator = Generator.load(path)
    found = generator.sample(5, seed=2)
    assert torch.equal(found.features, expected.features) and torch.equal(found.soft_labels, expected.soft_labels)
    generator.save(tmp_path / "again")
    assert "latents" not in load_file(tmp_path / "again")


@pytest.mark.parametrize("config", [
    NetworkConfig(architecture="gan_cnn", frames=8, noise=6, channels=4),
    NetworkConfig(architecture="gan_att", frames=8, noise=6, channels=4, utterance_branch=True),
    NetworkConfig(architecture="gan_1d", frames=4, noise=1, channels=1, kernel=1, utterance_branch=True),
    NetworkConfig(architecture="gaussian"),
    NetworkConfig(architecture="gaussian_frames", frames=4)])
@pytest.mark.parametrize("half", [False, True])
def test_every_architecture_loads(tmp_path, config, half):
    generator = tiny_generator(config)
    generator.save(tmp_path / "file", half=half)
    loaded = Generator.load(tmp_path / "file")
    torch.testing.assert_close(loaded.sample(2).features, generator.sample(2).features, atol=0.05, rtol=0.01)
