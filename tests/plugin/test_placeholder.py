"""Placeholders: told from all that can be audio."""

import numpy as np
import pytest
import soundfile
import torch

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.placeholder import PROBE_SAMPLES, SAMPLES, is_placeholder, make_placeholder, make_silence


def test_only_a_placeholder_is_one():
    assert is_placeholder(torch.from_numpy(make_placeholder()))
    one_number = make_placeholder()
    one_number[7] = 0.0
    for wav in (np.zeros(SAMPLES, np.float32), make_silence(), make_placeholder()[:-1], one_number):
        assert not is_placeholder(torch.from_numpy(wav))
    assert make_silence().shape == (PROBE_SAMPLES,) and not make_silence().any()


def test_no_audio_file_can_be_one(tmp_path):
    soundfile.write(tmp_path / "x.wav", make_placeholder(), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="not finite"):
        load_audio(tmp_path / "x.wav")
