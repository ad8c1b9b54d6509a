"""Real utterances as T frames: framing, statistics, draws."""

import dataclasses

import pytest
import torch
from support.gauss import DIM, tiny_data

from s3prl_dd.distill.data import Scale, TrainingData, resample
from s3prl_dd.errors import UserError


def test_resample_keeps_the_mean():
    frames = torch.randn(24, 5)
    torch.testing.assert_close(resample(frames, 8), frames.view(8, 3, 5).mean(dim=1))
    torch.testing.assert_close(resample(frames, 8).mean(dim=0), frames.mean(dim=0))
    assert resample(frames[:3], 8).shape == (8, 5)
    line = torch.arange(4.0)[:, None]
    torch.testing.assert_close(resample(line, 8)[:, 0], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_framed_data_is_standardised():
    data = tiny_data()
    assert data.source.values.shape == (60, 8, DIM) and data.dim == DIM
    assert data.source.values.mean(dim=(0, 1)).abs().max() < 1e-5
    assert (data.source.values.std(dim=(0, 1)) - 1).abs().max() < 1e-3
    torch.testing.assert_close(data.source.values[3] * data.std + data.mean, resample(data.utterances[3], 8))
    assert data.class_counts == [20, 16, 24]
    torch.testing.assert_close(data.means[7], data.utterances[7].mean(dim=0))


@pytest.mark.parametrize("framing", ["resample", "crop"])
def test_draw_is_keyed_and_of_the_label(framing):
    data, labels = tiny_data(framing), torch.arange(12) % 3
    indices, starts = data.draw(labels, 0, "a", 1)
    assert torch.equal(data.labels[indices], labels)
    again, others = data.draw(labels, 0, "a", 1), data.draw(labels, 0, "a", 2)
    assert torch.equal(again.indices, indices) and torch.equal(again.starts, starts)
    assert not torch.equal(others.indices, indices)
    starts[:2] = torch.tensor([0.0, 1 - 1e-6])  # the first crop and the last
    raw = data.frames_of(indices, starts) * data.std + data.mean
    for index, start, made in zip(indices, starts, raw, strict=True):
        utterance = data.utterances[index]
        first = int(start * (len(utterance) - 7))
        expected = utterance[first:first + 8] if framing == "crop" else resample(utterance, 8)
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_every_utterance_is_drawn_and_classes_alike():
    data, labels = tiny_data(), torch.arange(12) % 3
    many = torch.cat([data.draw(labels, 0, "many", step).indices for step in range(100)])
    counts = torch.bincount(many, minlength=60)
    assert counts.min() > 0 and counts[:20].sum() == counts[20:36].sum() == counts[36:].sum() == 400


def test_length_percentiles():
    data = tiny_data()
    for label, row in enumerate(data.length_percentiles()):
        lengths = sorted(len(item) for item, y in zip(data.utterances, data.labels, strict=True) if y == label)
        assert len(row) == 101 and row[0] == lengths[0] and row[-1] == lengths[-1] and row == sorted(row)
        middle = (lengths[len(lengths) // 2 - 1] + lengths[len(lengths) // 2]) / 2
        assert row[50] == pytest.approx(middle, abs=0.06)


def test_too_short_utterances_are_refused():
    with pytest.raises(UserError, match="1 frames"):
        TrainingData.build([torch.randn(9, 3), torch.randn(1, 3)], [0, 1], None)
    with pytest.raises(UserError, match="7 frames, framing 'crop' needs 8"):
        TrainingData.build([torch.randn(9, 3), torch.randn(7, 3)], [0, 1], None, "crop", 8)
    with pytest.raises(UserError, match="resample, crop"):
        TrainingData.build([torch.randn(9, 3)], [0], None, "repeat")


def test_to_leaves_the_callers_data_where_they_were():
    data = tiny_data()
    moved = data.to("meta")
    assert moved.source.values.device.type == "meta" and data.source.values.device.type == "cpu"
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.frames = 4


def test_scale():
    values = 5 + 2 * torch.randn(400, 3)
    units = Scale.of(values).units(values)
    torch.testing.assert_close(units.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(units.std(dim=0), torch.ones(3))
    assert Scale.of(torch.ones(4, 2)).units(torch.ones(4, 2)).abs().sum() == 0  # nothing spreads: no division by 0
