"""Training data that stay on the disk: the same draws as in memory, up to half precision."""

from pathlib import Path

import pytest
import torch
from support.gauss import DIM, PARTS, tiny_config, write_run

from s3prl_dd.corpora.metadata import read_fold
from s3prl_dd.distill import data as data_module
from s3prl_dd.distill.checkpoint import identity
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.sources import FramesInMemory
from s3prl_dd.distill.stored import Moments, StoredFrames
from s3prl_dd.features.store import FeatureStore


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def open_data(run: Path, framing: str = "resample") -> TrainingData:
    return TrainingData.from_store(FeatureStore(run / "features"), read_fold(run / "metadata", "fold1"), framing, 8)


def sidecars(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "features").glob("*.bin") if path.name != "features.bin")


@pytest.mark.parametrize("framing", ["resample", "crop"])
def test_draws_are_those_of_memory(run, monkeypatch, framing):
    memory = open_data(run, framing)
    assert isinstance(memory.source, FramesInMemory) and sidecars(run) == []
    monkeypatch.setattr(data_module, "RESIDENT_BYTES", 0)
    disk = open_data(run, framing)
    assert isinstance(disk.source, StoredFrames) and len(sidecars(run)) == 1
    torch.testing.assert_close(disk.mean, memory.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(disk.std, memory.std, rtol=1e-5, atol=1e-6)
    draw = memory.draw(torch.arange(24) % 3, 0, "x", 1)
    assert all(torch.equal(one, other) for one, other in zip(draw, disk.draw(torch.arange(24) % 3, 0, "x", 1),
                                                             strict=True))
    frames = disk.to("cpu").frames_of(*draw)
    assert frames.shape == (24, 8, DIM) and frames.dtype == torch.float32
    torch.testing.assert_close(frames, memory.frames_of(*draw), rtol=2e-3, atol=2e-3)
    for name in ("means", "lengths", "labels", "first_numbers", "class_sizes"):
        assert torch.equal(getattr(disk, name), getattr(memory, name)), name


def test_a_set_in_memory_is_as_a_list_of_utterances(run):
    stored = open_data(run)
    listed = TrainingData.build(list(stored.utterances), stored.labels, stored.dev, "resample", 8)
    assert torch.equal(stored.source.values, listed.source.values)
    for name in ("mean", "std", "means", "lengths", "first_numbers"):
        assert torch.equal(getattr(stored, name), getattr(listed, name)), name
    config = tiny_config(teacher=False)
    network = config.network.sized(3, DIM)
    assert identity(config, network, PARTS, stored, None) == identity(config, network, PARTS, listed, None)


def test_the_file_is_written_once_and_anew_where_it_is_cut_off(run, monkeypatch):
    monkeypatch.setattr(data_module, "RESIDENT_BYTES", 0)
    first = open_data(run)
    path = run / "features" / sidecars(run)[0]
    content, written = path.read_bytes(), []
    write = StoredFrames._write
    monkeypatch.setattr(StoredFrames, "_write", lambda self, path: (written.append(path), write(self, path)))
    again = open_data(run)
    assert written == [] and torch.equal(again.mean, first.mean)
    path.write_bytes(content[:-1])
    open_data(run)
    assert written == [path] and path.read_bytes() == content


def test_other_utterances_or_frames_have_another_file(run, monkeypatch):
    monkeypatch.setattr(data_module, "RESIDENT_BYTES", 0)
    data = open_data(run)
    TrainingData.from_store(FeatureStore(run / "features"), read_fold(run / "metadata", "fold1"), "resample", 4)
    data.utterances.positions[0] += 1
    StoredFrames(data.utterances, 8, data_module.resample)
    assert len(sidecars(run)) == 3


def test_moments_of_parts_are_those_of_the_whole():
    frames = 100 + torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    moments = Moments(4)
    for part in frames.split([1, 99, 250, 150]):
        moments.add(part)
    mean, std = moments.statistics()
    torch.testing.assert_close(mean, frames.double().mean(dim=0).float())
    torch.testing.assert_close(std, frames.double().std(dim=0).float())
