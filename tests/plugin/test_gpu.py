"""An upstream on a GPU: features and hidden states as on a CPU, extraction into a store, means."""

import numpy as np
import pytest
import torch
from support.gpu import exact, needs_gpu

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.features.bench import bench_extract, write_audio
from s3prl_dd.features.extract import extract
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.plugin.encoder import Encoder
from s3prl_dd.plugin.placeholder import Recording
from s3prl_dd.plugin.states import fill
from s3prl_dd.plugin.store import StateStore

pytestmark = [pytest.mark.gpu, needs_gpu]


@pytest.fixture(scope="module")
def spec(hubert_file):
    return FeatureSpec("hubert_local", str(hubert_file))


def test_features_and_states_are_those_of_a_cpu(spec):
    rng = np.random.default_rng(1)
    wavs = [rng.standard_normal(size).astype(np.float32) * 0.1 for size in (16000, 23456, 4000)]
    weights = [0.5, 0.25, 0.25]
    with exact():
        here, there = (Encoder(spec, device, weights) for device in ("cpu", "cuda"))
        for way in ("encode", "states"):
            for one, other in zip(getattr(there, way)(wavs), getattr(here, way)(wavs), strict=True):
                assert one.device.type == "cpu"
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mixed, most", [(False, 1e-3), (True, 2e-2)], ids=["float32", "mixed precision"])
def test_extraction(spec, mixed, most, tmp_path):
    utterances: list[Utterance] = write_audio(tmp_path, [8000, 12000, 12000, 20000])
    with exact():
        here = extract(Encoder(spec), tmp_path, utterances, tmp_path / "here", "float32")
        there = extract(Encoder(spec, "cuda"), tmp_path, utterances, tmp_path / "there", "float32",
                        mixed_precision=mixed)
    for number in range(len(here)):
        assert (there[number] - here[number]).abs().max() < most * here[number].abs().max()


def test_means(spec, tmp_path):
    recordings = [Recording(str(tmp_path / item.path)) for item in write_audio(tmp_path, [8000, 12000])]
    with exact():
        stores = [StateStore(tmp_path / device, 1e9) for device in ("cpu", "cuda")]
        assert [fill(spec, recordings, store, store.folder.name) for store in stores] == [2, 2]


def test_bench_runs(spec):
    encoder = Encoder(spec, "cuda")
    rows = bench_extract(encoder, encoder.encode, files=4, rounds=1, stock_workers=0)
    assert len(rows) == 2 and rows[1].seconds > 0
