"""What is done with a batch of samples."""

import torch

from s3prl_dd.generator import Samples, index_labels
from s3prl_dd.generator.samples import length_at, places_of, stretch


def test_index_labels():
    assert index_labels([2, 0, 3]).tolist() == [0, 0, 2, 2, 2]


def test_lengths_lie_between_the_percentiles():
    percentiles = [float(number) for number in range(10, 111)]
    assert [length_at(percentiles, quantile) for quantile in (0, 0.4, 0.6, 50, 99.9)] == [10, 10, 11, 60, 110]
    assert length_at([0.0] * 101, 50) == 1


def test_stretch_keeps_a_line_and_pads_with_zeros():
    line = torch.arange(4.0)[None, :, None].expand(2, 4, 3)  # [B, T, D]
    frames = stretch(line, [8, 4])
    assert frames.shape == (2, 8, 3)
    assert frames[0, :, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert frames[1, :, 2].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]


def test_join_pads_to_the_longest():
    def part(frames, label, soft):
        return Samples(torch.ones(1, frames, 2), torch.tensor([frames]), torch.tensor([label]), soft)

    joined = Samples.join([part(2, 0, torch.tensor([[1.0, 0.0]])), part(3, 1, torch.tensor([[0.2, 0.8]]))])
    assert joined.features[:, :, 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert joined.lengths.tolist() == [2, 3] and joined.labels.tolist() == [0, 1]
    torch.testing.assert_close(joined.soft_labels, torch.tensor([[1.0, 0.0], [0.2, 0.8]]))
    assert Samples.join([part(2, 0, None)] * 2).soft_labels is None


def test_places_are_counted_in_each_class():
    assert places_of(torch.tensor([2, 0, 2, 2, 0, 1])).tolist() == [0, 0, 1, 2, 1, 0]
