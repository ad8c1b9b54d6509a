"""The feature store, and extraction into it with a made encoder."""

import json

import numpy as np
import pytest
import soundfile
import torch
from support.gauss import FEATURES

from s3prl_dd.corpora.metadata import Metadata, Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.features import extract as module
from s3prl_dd.features.extract import extract
from s3prl_dd.features.store import FeatureStore, StoreWriter

ABOUT = {**FEATURES, "dim": 3}
ITEMS = [Utterance(f"a/{name}.wav", "neu", "s1") for name in ("ä", "b", "c", "d")]


def frames_of(number, length=None):
    return torch.randn(length or 2 + number, 3, generator=torch.Generator().manual_seed(number))


def fill(folder, dtype="float16", items=range(4)):
    with StoreWriter(folder, ABOUT, dtype) as writer:
        for number in items:
            if ITEMS[number].path not in writer.done:
                writer.add(ITEMS[number], frames_of(number))
    return FeatureStore(folder)


@pytest.mark.parametrize("dtype, size", [("float16", 2), ("float32", 4)])
def test_round_trip(tmp_path, dtype, size):
    store = fill(tmp_path, dtype)
    assert len(store) == 4 and store.dim == 3 and store.lengths.tolist() == [2, 3, 4, 5] and store.header["features"] == ABOUT
    assert (tmp_path / "features.bin").stat().st_size == 14 * 3 * size
    for number in range(4):
        assert store[number].dtype == torch.float32
        assert torch.equal(store[number], frames_of(number).half().float() if dtype == "float16" else frames_of(number))
    assert store.entries[1] == {"id": "a/b.wav", "label": "neu", "speaker": "s1", "frames": 3}
    chosen = Metadata({"neu": 0}, (ITEMS[2], ITEMS[0]))
    assert store.select(chosen) == [2, 0]
    torch.testing.assert_close(store.means([2, 0]), torch.stack([store[2].mean(0), store[0].mean(0)]))
    with pytest.raises(UserError, match="no features of 'a/other.wav'"):
        store.select(Metadata({"neu": 0}, (Utterance("a/other.wav", "neu", "s"),)))


def whole(folder):
    return [(folder / name).read_bytes() for name in ("index.jsonl", "features.bin", "header.json")]


def interrupted(folder, number=3):
    """A store that a kill left after `number` utterances."""
    writer = StoreWriter(folder, ABOUT)
    for item in range(number):
        writer.add(ITEMS[item], frames_of(item))
    writer.index.close(), writer.data.close()
    return folder


@pytest.mark.parametrize("index_cut", [0, 1, 2, 15, 70])
@pytest.mark.parametrize("data_cut", [0, 1, 5, 24, 40])
def test_resumes_after_a_kill_in_the_middle_of_writing(tmp_path, index_cut, data_cut):
    """Cut bytes off either file (1 off the index: only its newline): the rest is written anew, the end is the same."""
    fill(tmp_path / "whole")
    folder = interrupted(tmp_path / "cut")
    for name, cut in (("index.jsonl", index_cut), ("features.bin", data_cut)):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:len(data) - cut])
    with pytest.raises(UserError, match="did not finish"):
        FeatureStore(folder)
    store = fill(folder)
    assert whole(folder) == whole(tmp_path / "whole")
    assert torch.equal(store[3], frames_of(3).half().float())


def test_resumes_where_data_came_before_its_index_line(tmp_path):
    folder = interrupted(tmp_path / "cut")
    with open(folder / "features.bin", "ab") as file:
        file.write(b"12345678")
    fill(folder), fill(tmp_path / "whole")
    assert whole(folder) == whole(tmp_path / "whole")


def test_an_exception_leaves_the_store_unfinished(tmp_path):
    with pytest.raises(RuntimeError):
        with StoreWriter(tmp_path, ABOUT) as writer:
            writer.add(ITEMS[0], frames_of(0))
            raise RuntimeError
    with pytest.raises(UserError, match="did not finish"):
        FeatureStore(tmp_path)
    assert len(fill(tmp_path)) == 4


def test_a_finished_store_takes_more(tmp_path):
    fill(tmp_path, items=range(2))
    assert len(fill(tmp_path)) == 4


@pytest.mark.parametrize("change, told", [({"upstream": "hubert"}, "upstream 'made' not 'hubert'"), ({"layer_weights": [1.0, 0.0]}, "layer_weights"),
                                          ({"dim": 4}, "dim 3 not 4")])
def test_other_provenance_is_refused(tmp_path, change, told):
    fill(tmp_path)
    before = whole(tmp_path)
    with pytest.raises(UserError, match="holds features made otherwise") as caught:
        StoreWriter(tmp_path, {**ABOUT, **change})
    assert told in str(caught.value) and whole(tmp_path) == before
    with pytest.raises(UserError, match="another dtype"):
        StoreWriter(tmp_path, ABOUT, "float32")


@pytest.mark.parametrize("frames, dtype, told", [
    (torch.full((2, 3), 7e4), "float16", "too large for float16"), (torch.full((2, 3), float("nan")), "float32", "not finite"),
    (torch.zeros(0, 3), "float16", "empty"), (torch.zeros(2, 4), "float16", "expected \\[T, 3\\]"), (torch.zeros(3), "float16", "expected")])
def test_bad_features_are_refused(tmp_path, frames, dtype, told):
    with StoreWriter(tmp_path, ABOUT, dtype) as writer:
        with pytest.raises(UserError, match=told) as caught:
            writer.add(ITEMS[1], frames)
        assert "a/b.wav" in str(caught.value) and not writer.done
        writer.add(ITEMS[1], torch.full((2, 3), 65504.0))
    assert FeatureStore(tmp_path)[0].max() == 65504


def test_damaged_store_is_refused(tmp_path):
    fill(tmp_path)
    data = (tmp_path / "features.bin").read_bytes()
    (tmp_path / "features.bin").write_bytes(data[:-6])
    with pytest.raises(UserError, match="78 bytes, expected 84"):
        FeatureStore(tmp_path)
    (tmp_path / "features.bin").unlink()
    with pytest.raises(UserError, match="0 bytes, expected 84"):
        FeatureStore(tmp_path)
    (tmp_path / "index.jsonl").write_text("{not json}\n")
    with pytest.raises(UserError, match="not JSON"):
        FeatureStore(tmp_path)
    with pytest.raises(UserError, match="no such feature store"):
        FeatureStore(tmp_path / "none")


# extraction


class Encoder:
    """Frames of 320 samples: [mean, spread, number of samples]; fails at the call `fail`."""

    provenance, dim = ABOUT, 3

    def __init__(self, fail=None):
        self.fail, self.calls = fail, []

    def encode(self, waves):
        if len(self.calls) == self.fail:
            raise KeyboardInterrupt
        self.calls.append([len(wave) for wave in waves])
        assert all(wave.dtype == np.float32 and wave.ndim == 1 for wave in waves) and torch.is_inference_mode_enabled()
        return [torch.tensor([[part.mean(), part.std(), len(wave)] for part in wave[:len(wave) // 320 * 320].reshape(-1, 320)])
                for wave in waves]


@pytest.fixture
def audio(tmp_path):
    rng, items = np.random.default_rng(0), []
    for number, length in enumerate((4000, 16000, 1600, 8000, 3200)):
        path = f"{number % 2}/{number}.wav"
        (tmp_path / "audio" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "audio" / path, 0.1 * rng.standard_normal(length), 16000)
        items.append(Utterance(path, "neu", "s1"))
    return tmp_path / "audio", items


def contents(folder):
    store = FeatureStore(folder)
    return {entry["id"]: store[number].tolist() for number, entry in enumerate(store.entries)}


def test_extraction_batches_by_length(audio, tmp_path):
    root, items = audio
    encoder = Encoder()
    store = extract(encoder, root, [*items, items[0]], tmp_path / "one", batch_seconds=1.0)
    assert encoder.calls == [[1600, 3200, 4000], [8000], [16000]] and len(store) == 5  # at most a second, padding counted
    assert {name: len(frames) for name, frames in contents(tmp_path / "one").items()} == {
        "0/0.wav": 12, "1/1.wav": 50, "0/2.wav": 5, "1/3.wav": 25, "0/4.wav": 10}
    alone = Encoder()
    extract(alone, root, items, tmp_path / "alone", batch_seconds=0)
    assert all(len(call) == 1 for call in alone.calls) and contents(tmp_path / "alone") == contents(tmp_path / "one")


def test_extraction_resumes(audio, tmp_path):
    root, items = audio
    extract(Encoder(), root, items, tmp_path / "whole", batch_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        extract(Encoder(fail=3), root, items, tmp_path / "part", batch_seconds=0)
    with pytest.raises(UserError, match="did not finish"):
        FeatureStore(tmp_path / "part")
    encoder = Encoder()
    extract(encoder, root, items, tmp_path / "part", batch_seconds=0)
    assert len(encoder.calls) == 2
    assert whole(tmp_path / "part") == whole(tmp_path / "whole")


def test_missing_audio_is_named_before_long_work(audio, tmp_path):
    root, items = audio
    (root / items[3].path).unlink()
    encoder = Encoder()
    with pytest.raises(UserError, match="1/3.wav: no such audio file"):
        extract(encoder, root, items, tmp_path / "out")
    assert not encoder.calls


def test_full_disk_is_told_before_long_work(audio, tmp_path, monkeypatch):
    root, items = audio
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="bytes free on this disk"):
        extract(Encoder(), root, items, tmp_path / "out")


def test_index_is_plain_json(tmp_path):
    fill(tmp_path)
    lines = (tmp_path / "index.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [item.path for item in ITEMS]
