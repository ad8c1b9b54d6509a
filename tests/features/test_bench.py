"""The benchmarks' arithmetic and columns, on a few files: speeds are theirs to print, not ours to test."""

import json
import sys

import numpy as np
import pytest
import torch

from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.errors import UserError
from s3prl_dd.features import bench
from s3prl_dd.features.bench import (
    STEPS,
    bench_extract,
    draw_lengths,
    extract_table,
    make_corpus,
    measure,
    peak_memory,
    run_step,
    scale_table,
)
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.generator.header import Provenance

ABOUT = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None, normalize=False,
                   layer_weights=None, dim=2, rate=320)


def stock(waves):
    """Frames [mean, length of the batch]: padded batches give others, as HuBERT does."""
    longest = max(map(len, waves))
    return [torch.stack([wave[:len(wave) // 320 * 320].view(-1, 320).mean(dim=1),
                         torch.full((len(wave) // 320,), longest / 16000)], dim=1) for wave in waves]


class Encoder:
    provenance, dim, thread_safe = ABOUT, 2, False

    def encode(self, waves):
        return [stock([torch.from_numpy(wave)])[0] for wave in waves]


def test_extraction_is_compared_with_s3prls_loop():
    theirs, ours = bench_extract(Encoder(), stock, files=5, rounds=2, stock_workers=0)
    assert (theirs.name, theirs.ratio, ours.difference) == ("S3PRL's loop", 1.0, 0.0)
    assert theirs.difference > 0.1 and min(theirs.seconds, ours.seconds, ours.ratio) > 0 and ours.spread >= 0
    assert "times as fast" in extract_table([theirs, ours])
    with pytest.raises(UserError, match="files 0, rounds 3"):
        bench_extract(Encoder(), stock, files=0)


@pytest.mark.parametrize("lengths, mean", [("uniform", 7.75), ("speech", 4.3)])
def test_lengths(lengths, mean):
    seconds = draw_lengths(5000, lengths) / 16000
    assert seconds.min() >= 0.5 and seconds.max() <= 15 and abs(seconds.mean() - mean) < 0.2
    assert np.array_equal(draw_lengths(9, lengths), draw_lengths(9, lengths))


def test_many_utterances_are_measured_in_a_process_of_their_own(tmp_path):
    make_corpus(tmp_path, 50, 4)
    row = measure(bench.__name__, "means of train", tmp_path, 50)
    assert (row.name, row.utterances) == ("means of train", 50) and row.seconds > 0 and 10e6 < row.peak < 10e9
    assert "peak MB" in scale_table([row])


@pytest.mark.parametrize("name", STEPS)
def test_steps(tmp_path, capsys, name):
    make_corpus(tmp_path, 20, 4)
    run_step(name, str(tmp_path))
    seconds, peak = json.loads(capsys.readouterr().out)
    assert seconds >= 0 and peak > 0


def test_made_up_corpus(tmp_path):
    make_corpus(tmp_path, 20, 4)
    metadata, store = Metadata.read(tmp_path / "train.json"), FeatureStore(tmp_path / "store")
    assert store.select(metadata) == list(range(20)) and store.lengths.tolist() == [1, 2, 3, 4, 5] * 4
    assert metadata.class_counts == [5] * 4


def test_peak_memory_is_of_this_process():
    before = peak_memory()
    block = np.ones(40_000_000, dtype=np.uint8)
    assert peak_memory() >= before > 0 and block.any()


def test_a_step_that_fails_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match="open the store with 10 utterances: the process ended with 1"):
        measure(bench.__name__, "open the store", tmp_path, 10)
