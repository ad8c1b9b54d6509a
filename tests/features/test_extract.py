"""Extraction into a store, with an encoder made for it: batches, workers ahead, resume, faults."""

import shutil
import time

import numpy as np
import pytest
import soundfile
import torch

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.features import extract as extraction
from s3prl_dd.features.extract import extract
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.generator.header import Provenance

ABOUT = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None, normalize=False,
                   layer_weights=None, dim=3, rate=320)


def whole(folder):
    return [(folder / name).read_bytes() for name in ("index.jsonl", "features.bin", "header.json")]


class Encoder:
    """Frames of 320 samples: [mean, spread, number of samples]; fails at the call `fail`."""

    provenance, dim, thread_safe = ABOUT, 3, False

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


def test_padded_batches_keep_to_the_budget(audio, tmp_path):
    root, items = audio
    encoder = Encoder()
    store = extract(encoder, root, [*items, items[0]], tmp_path / "one", batch_seconds=1.0, padding=0.9)
    assert encoder.calls == [[1600, 3200, 4000], [8000], [16000]]  # at most a second, padding counted
    assert len(store) == 5
    assert {name: len(frames) for name, frames in contents(tmp_path / "one").items()} == {
        "0/0.wav": 12, "1/1.wav": 50, "0/2.wav": 5, "1/3.wav": 25, "0/4.wav": 10}
    alone = Encoder()
    extract(alone, root, items, tmp_path / "alone", batch_seconds=0)
    assert all(len(call) == 1 for call in alone.calls) and contents(tmp_path / "alone") == contents(tmp_path / "one")


def test_nothing_is_padded_unless_asked_for(audio, tmp_path):
    """Equal lengths share a batch, in any format; a wave as long as all others together is a batch of its own."""
    root, items = audio
    wave = 0.1 * np.random.default_rng(1).standard_normal((3, 8000))
    for number in range(3):
        soundfile.write(root / f"{number}.flac", wave[number], 16000)
        items.append(Utterance(f"{number}.flac", "neu", "s2"))
    soundfile.write(root / "long.wav", np.zeros(90000), 16000)
    encoder = Encoder()
    extract(encoder, root, [*items, Utterance("long.wav", "neu", "s3")], tmp_path / "out", "float32", 1.5)
    assert encoder.calls == [[1600], [3200], [4000], [8000] * 3, [8000], [16000], [90000]]


@pytest.mark.parametrize("padding, calls", [
    (0.2, [[1600], [3200, 4000], [8000], [16000]]), (0.5, [[1600, 3200], [4000, 8000], [16000]])])
def test_padding_is_a_share_of_the_longest(audio, tmp_path, padding, calls):
    encoder = Encoder()
    extract(encoder, *audio, tmp_path / "out", padding=padding)
    assert encoder.calls == calls


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_batches_change_nothing(audio, tmp_path, workers):
    root, items = audio
    for number in range(30):
        soundfile.write(root / f"{number}.wav", np.full(1600 + 320 * (number % 3), number / 40), 16000)
        items.append(Utterance(f"{number}.wav", "neu", "s2"))
    extract(Encoder(), root, items, tmp_path / "alone", batch_seconds=0, workers=1)
    extract(Encoder(), root, items, tmp_path / "batches", batch_seconds=3, workers=workers)
    assert whole(tmp_path / "batches") == whole(tmp_path / "alone")


def test_waves_are_in_memory_for_the_batches_in_flight_alone(audio, tmp_path, monkeypatch):
    """However many utterances: no more than a minute of audio is decoded and not yet encoded."""
    root, _ = audio
    items = [Utterance(f"{number}.wav", "neu", "s2") for number in range(40)]
    for item in items:
        soundfile.write(root / item.path, np.zeros(16000 * 5), 16000)
    decoded, waiting, load = [], [], extraction.load_audio
    monkeypatch.setattr(extraction, "load_audio", lambda *given: decoded.append(1) or load(*given))

    class Counting(Encoder):
        def encode(self, waves):
            time.sleep(0.005)
            waiting.append(len(decoded) - len(self.calls))
            return super().encode(waves)

    extract(Counting(), root, items, tmp_path / "out", "float32", batch_seconds=0)
    assert 2 <= max(waiting) <= 12 + 2  # 60 s wait, one is encoded, one opens the next batch


def test_a_file_that_does_not_decode_is_named_and_what_came_before_stays(audio, tmp_path):
    root, items = audio
    whole_file = (root / items[3].path).read_bytes()
    (root / items[3].path).write_bytes(whole_file[:9000])
    encoder = Encoder()
    with pytest.raises(UserError, match="1/3.wav: cannot be used as audio: truncated"):
        extract(encoder, root, items, tmp_path / "out", batch_seconds=0)
    assert encoder.calls == [[1600], [3200]]  # the third was still waiting for others of its length
    (root / items[3].path).write_bytes(whole_file)
    again = Encoder()
    extract(again, root, items, tmp_path / "out", batch_seconds=0)
    assert again.calls == [[4000], [8000], [16000]]
    extract(Encoder(), root, items, tmp_path / "whole", batch_seconds=0)
    assert whole(tmp_path / "out") == whole(tmp_path / "whole")


def test_a_file_without_a_header_is_told_before_long_work(audio, tmp_path):
    root, items = audio
    (root / items[1].path).write_bytes(b"no audio at all")
    encoder = Encoder()
    with pytest.raises(UserError, match="1/1.wav: cannot be used as audio: unreadable"):
        extract(encoder, root, items, tmp_path / "out")
    assert not encoder.calls


def test_mixed_precision_needs_a_gpu(audio, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="mixed precision: torch finds no GPU"):
        extract(Encoder(), *audio, tmp_path / "out", mixed_precision=True)


def test_extraction_resumes_in_the_middle_of_a_batch(audio, tmp_path):
    """Of a batch that a kill cut, the utterances that the store holds are not encoded again."""
    root, items = audio
    for number in range(4):
        soundfile.write(root / f"{number}.wav", np.full(8000, number / 10), 16000)
        items.append(Utterance(f"{number}.wav", "neu", "s2"))
    extract(Encoder(), root, items, tmp_path / "whole")
    extract(Encoder(), root, items, tmp_path / "cut")
    index = (tmp_path / "cut" / "index.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut" / "index.jsonl").write_text("".join(index[:5]))
    encoder = Encoder()
    extract(encoder, root, items, tmp_path / "cut")
    assert encoder.calls == [[8000] * 3, [16000]]
    assert whole(tmp_path / "cut") == whole(tmp_path / "whole")


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
    store = extract(Encoder(), root, items, tmp_path / "store", "float32", batch_seconds=2.0, padding=0.9)
    for item in items:
        place = store.positions[item.path]
        wave, _ = soundfile.read(root / item.path, dtype="float32")
        first = torch.tensor([wave[:320].mean(), wave[:320].std(), len(wave)])
        torch.testing.assert_close(store[place][0], first, rtol=1e-4, atol=1e-6)
        assert (store.entries[place].label, store.entries[place].speaker) == (item.label, item.speaker)


def test_hubert_gives_the_features_of_each_utterance_alone(tmp_path, hubert_file):
    """S3PRL's own values for a batch of one, up to rounding; padding, when asked for, changes them by far more."""
    from s3prl_dd.features.spec import FeatureSpec
    from s3prl_dd.plugin.encoder import Encoder as Upstream

    rng, items, alone = np.random.default_rng(3), [], {}
    upstream = Upstream(FeatureSpec("hubert_local", str(hubert_file)))
    for number, length in enumerate((8000, 9000, 8000, 9600, 8000)):
        items.append(Utterance(f"{number}.wav", "neu", "s"))
        soundfile.write(tmp_path / items[-1].path, 0.1 * rng.standard_normal(length), 16000)
        alone[items[-1].path], = upstream.encode([soundfile.read(tmp_path / items[-1].path, dtype="float32")[0]])

    def largest_difference(folder, padding):
        store = extract(upstream, tmp_path, items, tmp_path / folder, "float32", padding=padding)
        stored = {name: store[store.positions[name]][:len(frames)] for name, frames in alone.items()}
        return max((stored[name] - frames).abs().max() for name, frames in alone.items())

    assert largest_difference("equal", padding=0.0) < 1e-5
    assert largest_difference("padded", padding=0.2) > 1e-2
