"""The header: a type of its own, checked whole, read without tensors."""

import dataclasses
import json

import pytest
import torch
from support.tiny_generator import LABELS, PROVENANCE, rewrite, tiny_generator, tiny_header

from s3prl_dd.errors import UserError
from s3prl_dd.generator import CorpusInfo, Generator, Header, NetworkConfig, Provenance, read_header
from s3prl_dd.generator.header import parse_header


def test_round_trip_through_json():
    header = tiny_header()
    assert parse_header(header.to_json()) == header
    assert json.loads(header.to_json())["network"]["classes"] == 3


def test_read_header_reads_no_tensor(tmp_path):
    """A file with broken values has a header; loading it is refused."""
    path = tmp_path / "generator.safetensors"
    generator = tiny_generator()
    generator.save(path)
    rewrite(path, tensors=lambda tensors: tensors["mean"].fill_(torch.nan))
    assert read_header(path) == generator.header
    with pytest.raises(UserError, match="tensor mean has values that are not finite"):
        Generator.load(path)


def test_precision_is_what_the_file_stores(tmp_path):
    for half, precision in ((False, "float32"), (True, "float16")):
        tiny_generator().save(tmp_path / "file", half=half)
        assert read_header(tmp_path / "file").precision == precision


def test_a_header_is_frozen_and_its_names_are_by_index():
    header = tiny_header(labels={"sad": 2, "neu": 0, "ang": 1})
    assert header.names() == ["neu", "ang", "sad"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        header.labels = LABELS


@pytest.mark.parametrize("changes, message", [
    ({"labels": {"neu": 0, "ang": 1}}, "labels: expected the indices 0 to 2"),
    ({"labels": {"neu": 1, "ang": 2, "sad": 3}}, "labels: expected the indices 0 to 2"),
    ({"class_counts": [20, 16]}, "class_counts: expected one for each of the 3 classes, found 2"),
    ({"lengths": [[5.0] * 101] * 2}, "lengths: expected one for each of the 3 classes, found 2"),
    ({"lengths": [[5.0] * 100 + [4.0]] * 3}, "lengths.0: expected percentiles that do not fall"),
    ({"features": Provenance(**PROVENANCE, dim=11)}, "features.dim: expected network.dim 10, found 11"),
    ({"class_counts": [20, 16, 0]}, "class_counts.2"), ({"strange": 1}, "unknown key 'strange'"),
])
def test_what_cannot_be_a_header_is_not_made(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_header(**changes)


def test_a_header_of_the_version_before_is_read():
    """Keys in another order, no s3prl, no training."""
    values = json.loads(tiny_header().to_json())
    del values["training"], values["metrics"], values["features"]["s3prl"]
    header = parse_header(json.dumps(dict(reversed(values.items()))))
    assert header == dataclasses.replace(tiny_header(), training={}, metrics={})


# provenance


def provenance(**changes):
    return Provenance(**{**PROVENANCE, "dim": 10, **changes})


def test_differences_of_provenance():
    one = provenance(s3prl="0.4.18")
    assert one.differences(provenance(s3prl="0.5")) == {}
    other = provenance(upstream="fbank", layer=3, rate=160)
    assert one.differences(other) == {"upstream": ("made", "fbank"), "layer": (None, 3), "rate": (320, 160)}


@pytest.mark.parametrize("weights, same", [
    ([0.25, 0.75], True), ([0.25005, 0.74995], True), ([0.2503, 0.7497], False), ([0.25, 0.25, 0.5], False),
    (None, False)])
def test_layer_weights_may_be_a_little_apart(weights, same):
    differences = provenance().differences(provenance(layer_weights=weights))
    assert differences == ({} if same else {"layer_weights": ([0.25, 0.75], weights)})
    assert provenance(layer_weights=None).differences(provenance(layer_weights=None)) == {}


# networks


def test_sized_adds_what_the_corpus_and_the_features_say():
    config = NetworkConfig(architecture="gan_att", frames=24, noise=7, channels=5)
    network = config.sized(classes=3, dim=20)
    assert (network.classes, network.dim, network.frames, network.noise, network.channels) == (3, 20, 24, 7, 5)
    gaussian = NetworkConfig(architecture="gaussian").sized(classes=3, dim=20)
    assert (gaussian.frames, gaussian.noise) == (1, 20)


def test_every_field_is_documented():
    for kind in (Header, Provenance, NetworkConfig):
        fields = kind.__pydantic_fields__
        assert all(field.description for field in fields.values()), kind


def test_speakers_are_told_by_digests():
    corpus = CorpusInfo(name="ravdess", fold="fold1", synthetic=False, train_speakers=["Actor_01", "Actor_02"],
                        test_speakers=["Actor_07"], test_digest="0")
    hidden = corpus.hiding_names()
    assert not any("Actor" in text for text in (*hidden.train_speakers, *hidden.test_speakers))
    assert (len(hidden.train_speakers), len(hidden.test_speakers)) == (2, 1)
    people = ["Actor_07", "Actor_02", "Actor_01", "Actor_03"]
    assert corpus.heard(people) == hidden.heard(people) == ["Actor_02", "Actor_01"]
    assert hidden.hiding_names() == hidden
    other = dataclasses.replace(corpus, fold="fold2").hiding_names()
    assert not set(other.train_speakers) & set(hidden.train_speakers)
