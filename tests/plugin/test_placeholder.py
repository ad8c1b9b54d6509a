"""Marks: told from all that can be audio, and from each other."""

import numpy as np
import pytest
import soundfile
import torch

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.errors import UserError
from s3prl_dd.plugin import placeholder
from s3prl_dd.plugin.placeholder import (
    GENERATED,
    MOST,
    PROBE_SAMPLES,
    Recording,
    Recordings,
    make_placeholder,
    make_silence,
    make_ticket,
    read_marks,
)


def marks(*wavs):
    return read_marks([torch.FloatTensor(wav) for wav in wavs])  # as S3PRL's Runner makes them


def test_marks_say_what_they_were_made_of():
    assert marks(make_placeholder(), make_placeholder()) == [GENERATED, GENERATED]
    assert marks(make_ticket(0), make_ticket(7), make_ticket(MOST - 1)) == [0, 7, MOST - 1]


def test_audio_is_no_mark():
    for wav in (np.zeros(2, np.float32), make_silence(), np.zeros(1600, np.float32), np.full(3, np.nan, np.float32),
                np.array([0.0, np.nan], np.float32)):
        assert marks(wav) is None and marks(wav, make_silence()) is None
    assert make_silence().shape == (PROBE_SAMPLES,) and not make_silence().any()


@pytest.mark.parametrize("wavs", [(make_ticket(3), make_silence()), (make_placeholder(), make_ticket(3)),
                                  (make_ticket(3), np.zeros(2, np.float32))])
def test_a_batch_is_of_one_kind(wavs):
    with pytest.raises(ValueError, match="a batch of several kinds"):
        marks(*wavs)


@pytest.mark.parametrize("mark", [make_placeholder(), make_ticket(5)])
def test_no_audio_file_can_be_one(mark, tmp_path):
    soundfile.write(tmp_path / "x.wav", mark, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="cannot be used as audio"):
        load_audio(tmp_path / "x.wav")


def test_recordings_keep_their_numbers(tmp_path, monkeypatch):
    recordings = Recordings()
    monkeypatch.chdir(tmp_path)
    items = [Recording.of("", {"path": path}) for path in ("b.wav", "a.wav", tmp_path / "b.wav", "x/../a.wav")]
    items += [Recording.of("", {"path": "a.wav", "start": 0.5, "end": end}) for end in (None, 2.0)]
    assert [recordings.add(item) for item in items] == [0, 1, 0, 1, 2, 3]
    assert recordings.all[0] == (str(tmp_path / "b.wav"), None, None) and recordings.all[3].end == 2.0
    monkeypatch.setattr(placeholder, "MOST", 4)
    with pytest.raises(UserError, match="c.wav: more than 4 recordings"):
        recordings.add(Recording("c.wav"))


def test_a_recording_is_loaded_as_a_corpus_is(corpus):
    recording = Recording.of(corpus / "audio", {"path": "speaker0/neu0.wav"})
    assert np.array_equal(recording.load(), load_audio(recording.path)) and recording.length() == len(recording.load())
