"""Extraction into a store, with an encoder made for it."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.features.extract import extract
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.generator.header import Provenance

ABOUT = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None, normalize=False,
                   layer_weights=None, dim=3, rate=320)


def whole(folder):
    return [(folder / name).read_bytes() for name in ("index.jsonl", "features.bin", "header.json")]


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
        return [self.frames(wave) for wave in waves]

    def frames(self, wave):
        parts = wave[:len(wave) // 320 * 320].reshape(-1, 320)
        return torch.tensor([[part.mean(), part.std(), len(wave)] for part in parts])


@pytest.fixture
def audio(tmp_path):
    rng, items = np.random.default_rng(0), []
    for number, length in enumerate((4000, 16000, 1600, 8000, 3200)):
        path = f"{number % 2}/{number}.wav"
        (tmp_path / "audio" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "audio" / path, 0.1 * rng.standard_normal(length), 16000)
        items.append(Utterance(path, "neu" if number % 3 else "sad", f"s{number % 2}"))
    return tmp_path / "audio", items


def contents(folder):
    store = FeatureStore(folder)
    return {entry.id: store[number].tolist() for number, entry in enumerate(store.entries)}


def test_extraction_batches_by_length(audio, tmp_path):
    root, items = audio
    encoder = Encoder()
    store = extract(encoder, root, [*items, items[0]], tmp_path / "one", batch_seconds=1.0)
    assert encoder.calls == [[1600, 3200, 4000], [8000], [16000]]  # at most a second, padding counted
    assert len(store) == 5
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
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="bytes free on this disk"):
        extract(Encoder(), root, items, tmp_path / "out")


def test_extraction_resumes_after_a_cut_in_the_middle_of_an_utterance(audio, tmp_path):
    """A kill while frames are written: the half utterance is encoded again, those before it are not."""
    root, items = audio
    extract(Encoder(), root, items, tmp_path / "whole", batch_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        extract(Encoder(fail=3), root, items, tmp_path / "part", batch_seconds=0)
    data = (tmp_path / "part" / "features.bin").read_bytes()
    (tmp_path / "part" / "features.bin").write_bytes(data[:-7])
    encoder = Encoder()
    extract(encoder, root, items, tmp_path / "part", batch_seconds=0)
    assert encoder.calls == [[4000], [8000], [16000]]
    assert whole(tmp_path / "part") == whole(tmp_path / "whole")


def test_frames_stay_with_their_utterance(audio, tmp_path):
    """Batches go by length, entries keep id, label and speaker: each utterance's frames are those of its own wave."""
    root, items = audio
    store = extract(Encoder(), root, items, tmp_path / "store", dtype="float32", batch_seconds=2.0)
    for item in items:
        place = store.positions[item.path]
        wave, _ = soundfile.read(root / item.path, dtype="float32")
        first = torch.tensor([wave[:320].mean(), wave[:320].std(), len(wave)])
        torch.testing.assert_close(store[place][0], first, rtol=1e-4, atol=1e-6)
        assert (store.entries[place].label, store.entries[place].speaker) == (item.label, item.speaker)
