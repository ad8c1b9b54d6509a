"""The demo corpus of synthetic speech."""

import importlib.util

import numpy as np
import pytest
import soundfile

from s3prl_dd.corpora import demo, prepare
from s3prl_dd.corpora.metadata import read_corpus, read_fold
from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest

installed = importlib.util.find_spec("espeakng_loader") is not None
needs_espeak = pytest.mark.skipif(not installed, reason="espeakng-loader is not installed")


def digests(root):
    return {path.relative_to(root).as_posix(): file_digest(path) for path in root.rglob("*.flac")}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    return out, prepare("demo", None, out)


@needs_espeak
def test_demo_is_whole_balanced_and_named_synthetic(spoken):
    out, summary = spoken
    assert (summary.utterances, summary.speakers, len(summary.folds)) == (400, 10, 5)
    assert summary.synthetic and "synthetic speech" in summary.name and "eSpeak NG" in summary.name
    assert summary.warnings == () and summary.sample_rates == {"16000": 400} and summary.channels == {"1": 400}
    assert read_corpus(out).root == str(out / "audio")
    fold = read_fold(out, "fold3")
    assert fold.test.speakers == ["voice05", "voice06"] and fold.test.class_counts == [20] * 4
    assert "Synthetic" in (out / "audio" / "demo.json").read_text()


@needs_espeak
def test_the_same_bytes_again_in_another_process(spoken, tmp_path):
    demo.make(tmp_path)
    assert digests(tmp_path) == digests(spoken[0] / "audio") and len(digests(tmp_path)) == 400


@needs_espeak
def test_what_is_missing_or_broken_is_spoken_again_the_rest_kept(spoken):
    root = spoken[0] / "audio"
    before = digests(root)
    files = sorted(root.rglob("*.flac"))
    times = {path: path.stat().st_mtime_ns for path in files[2:]}
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    demo.make(root)
    assert digests(root) == before and all(path.stat().st_mtime_ns == time for path, time in times.items())


@needs_espeak
def test_emotions_are_acted_by_loudness_and_rate(spoken):
    root, level, seconds = spoken[0] / "audio", {}, {}
    for line in demo.script():
        samples, rate = soundfile.read(root / line.path)
        level.setdefault(line.emotion, []).append(np.sqrt(np.mean(samples**2)))
        seconds.setdefault(line.emotion, []).append(len(samples) / rate)
    level, seconds = ({key: np.array(value) for key, value in table.items()} for table in (level, seconds))
    assert level["sad"].mean() < level["neu"].mean() < level["ang"].mean()
    assert seconds["ang"].mean() < seconds["neu"].mean() < seconds["sad"].mean()
    assert level["sad"].max() > level["ang"].min() and seconds["hap"].max() > seconds["sad"].min()  # they overlap


def test_sentences_do_not_tell_the_emotion_and_settings_stay_in_bounds():
    spoken = demo.script()
    texts = {emotion: [line.text for line in spoken if line.emotion == emotion] for emotion in demo.ACTING}
    assert len({tuple(sorted(text)) for text in texts.values()}) == 1
    for line in spoken:
        for low, value, high in zip(demo.LOWEST, line.settings, demo.HIGHEST, strict=True):
            assert low <= value <= high and value == int(value)
    assert len({line.path for line in spoken}) == len(spoken) == 400


def test_without_espeak_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install s3prl_dd\[demo\]"):
        prepare("demo", None, tmp_path / "out")


@needs_espeak
def test_a_crash_of_espeak_is_an_error_that_keeps_what_was_spoken(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "VOICES", (demo.VOICES[0], "no-such-voice"))
    with pytest.raises(UserError, match="eSpeak NG did not finish"):
        demo.make(tmp_path)
    assert len(digests(tmp_path)) == 40
