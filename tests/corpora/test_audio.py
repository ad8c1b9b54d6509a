"""Audio files: what is read, and what is said of those that cannot be used."""

import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.iemocap_tree import cut_in_half, tone, written

from s3prl_dd.corpora import audio
from s3prl_dd.corpora.audio import AudioError, audio_info, audio_length, is_readable, load_audio, read_audio
from s3prl_dd.errors import UserError


def test_load_audio_averages_channels_and_resamples(tmp_path):
    time = np.arange(48000) / 48000
    left, right = 0.5 * np.sin(2 * np.pi * 440 * time), np.zeros(48000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 48000, subtype="FLOAT")
    samples = load_audio(tmp_path / "stereo.wav")
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert samples.dtype == np.float32 and samples.shape == (16000,)
    assert np.abs(samples - expected)[100:-100].max() < 1e-3


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_load_audio_keeps_duration_at_any_rate(tmp_path, rate):
    path = tone(tmp_path / "a.flac", seconds=0.5, rate=rate)
    assert abs(len(load_audio(path)) - 8000) <= 1
    info = audio_info(path)
    assert (info.rate, info.channels, info.seconds) == (rate, 1, 0.5) and info.peak == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("make, text", [
    (lambda folder: folder / "none.wav", "no such file"),
    (lambda folder: written(folder / "e.wav", b""), "has no bytes"),
    (lambda folder: written(folder / "t.wav", b"not audio at all"), "unreadable, Format not recognised"),
    (lambda folder: cut_in_half(tone(folder / "cut.wav")), "truncated"),
    (lambda folder: tone(folder / "short.wav", seconds=0.0), "empty, 0 samples"),
    (lambda folder: tone(folder / "nan.wav", loudness=np.nan, subtype="FLOAT"), "not finite"),
])
def test_load_audio_names_the_file_and_the_cause(tmp_path, make, text):
    path = make(tmp_path)
    with pytest.raises(UserError, match=text) as error:
        load_audio(path)
    assert str(path) in str(error.value)


def test_truncated_flac_is_refused(tmp_path):
    with pytest.raises(UserError, match="truncated|unreadable"):
        load_audio(cut_in_half(tone(tmp_path / "a.flac", seconds=2.0)))


def test_wav_written_to_a_pipe_is_whole(tmp_path):
    path = tone(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place: place + 4] = data[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(load_audio(path)) == 3200


@pytest.mark.parametrize("rate, ending", [(8000, "wav"), (44100, "flac"), (16000, "wav")])
def test_the_header_tells_the_length(tmp_path, rate, ending):
    path = tone(tmp_path / f"a.{ending}", seconds=0.3333, rate=rate)
    assert audio_length(path, 16000) == len(load_audio(path, 16000))
    with pytest.raises(UserError, match="gone.wav: cannot be used as audio: no such file"):
        audio_length(tmp_path / "gone.wav")


@pytest.mark.parametrize("part", [1, 999, 4000, 4001])
def test_audio_is_checked_part_by_part(tmp_path, monkeypatch, part):
    """However long a file is, its peak and length are found without all of it in memory."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 2)).astype(np.float32)
    samples[3999, 1] = -0.75
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    monkeypatch.setattr(audio, "PART", part)
    info = audio_info(tmp_path / "a.wav")
    assert (info.peak, info.seconds, info.channels) == (0.75, 0.25, 2)
    assert len(read_audio(tmp_path / "a.wav")[0]) == 4000


@pytest.mark.parametrize("place", [0, 1234, 3999])
def test_a_part_that_is_not_finite_is_refused(tmp_path, monkeypatch, place):
    samples = np.full(4000, 0.1, dtype=np.float32)
    samples[place] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    monkeypatch.setattr(audio, "PART", 1000)
    with pytest.raises(UserError, match="not finite"):
        audio_info(tmp_path / "a.wav")


# headers that only guess


def mp3_without_its_index(path):
    """An MP3 of 15 s whose first, quiet part makes a reader guess a wrong length from its first frames."""
    rng = np.random.default_rng(0)
    quiet, loud = 0.1 * np.sin(np.arange(160000) * 0.05), 0.3 * rng.standard_normal(80000)
    soundfile.write(path, np.concatenate([quiet, loud]), 16000, format="MP3", bitrate_mode="VARIABLE")
    return written(path, path.read_bytes()[288:])  # the first frame holds the index


def test_an_mp3_is_read_for_what_it_holds(tmp_path):
    path = mp3_without_its_index(tmp_path / "a.mp3")
    assert soundfile.info(path).frames < 100000  # libsndfile's guess
    samples = load_audio(path)
    assert 240000 <= len(samples) < 243000 and np.abs(samples[-60000:]).max() > 0.5
    assert audio_length(path) == len(samples) and audio_info(path).seconds == len(samples) / 16000
    part = load_audio(path, 16000, 12.0, 13.0)
    assert np.array_equal(part, samples[192000:208000])
    with pytest.raises(UserError, match="the segment from 14 s to 20 s: the file ends at 15"):
        load_audio(path, 16000, 14.0, 20.0)


def test_an_mp3_with_its_index_is_read_as_libsndfile_does(tmp_path):
    path = tone(tmp_path / "a.mp3", seconds=1.0)
    tagged = written(tmp_path / "tagged.mp3", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes())
    expected = soundfile.read(path, dtype="float32")[0]
    for file in (path, tagged):
        assert np.allclose(load_audio(file), expected, rtol=0, atol=1e-7)  # the decoder's own rounding


def test_a_flac_from_a_pipe_is_read_to_its_end(tmp_path):
    path = tone(tmp_path / "a.flac", seconds=1.0)
    expected = load_audio(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO's number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert np.array_equal(load_audio(path), expected) and audio_length(path) == 16000
    assert np.array_equal(load_audio(path, 16000, 0.25, 0.5), expected[4000:8000])
    assert audio_info(path).seconds == 1.0


def unsized(path):
    """A WAV's bytes, whose data chunk says that it has none."""
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place: place + 4] = bytes(4)
    return bytes(data)


def test_a_wav_that_says_it_has_no_bytes_is_read_for_what_it_holds(tmp_path):
    path = tone(tmp_path / "a.wav", seconds=1.0)
    expected = load_audio(path)
    written(path, unsized(path))
    assert np.array_equal(load_audio(path), expected) and audio_length(path) == 16000
    assert np.array_equal(load_audio(path, 16000, 0.25, 0.5), expected[4000:8000])


def test_a_pointer_is_not_audio(tmp_path):
    path = written(tmp_path / "a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match="a Git LFS pointer, not the audio itself. Run `git lfs pull`"):
        load_audio(path)


def test_a_name_that_is_too_long_is_a_cause(tmp_path):
    path = tmp_path / ("x" * 300 + ".wav")
    for read in (load_audio, audio_info, audio_length):
        with pytest.raises(AudioError, match="unreadable, File name too long. Check the file's name"):
            read(path)
    assert not is_readable(path)


@pytest.mark.parametrize("step", ["is_file", "stat", "_cut_short", "_unsized_wav", "is_pointer"])
def test_what_the_system_refuses_is_a_cause(tmp_path, monkeypatch, step):
    """At each step; root, who runs some tests, may read everything."""
    path = tone(tmp_path / "a.wav")

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    if step == "is_pointer":
        written(path, b"what libsndfile cannot open")
    if step == "_unsized_wav":
        written(path, unsized(path))
    monkeypatch.setattr(Path if step in ("is_file", "stat") else audio, step, refuse)
    with pytest.raises(AudioError, match="a.wav: cannot be used as audio: unreadable, Permission denied. Check the"):
        audio_info(path)


def test_a_disk_that_fails_in_the_middle_of_an_mp3(tmp_path, monkeypatch):
    path = tone(tmp_path / "a.mp3", seconds=2.0)

    def fail(source, pipe):
        pipe.write(source.read(4000))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(audio.shutil, "copyfileobj", fail)
    with pytest.raises(AudioError, match="unreadable, Input/output error"):
        audio_info(path)


def test_descriptors_are_closed(tmp_path):
    """MP3s are read through pipes; thousands of them must not run out of files."""
    path, short = tone(tmp_path / "a.mp3", seconds=1.0), tone(tmp_path / "b.mp3", seconds=0.0)
    for _ in range(3):
        audio_length(path), load_audio(path, 16000, 0.1, 0.3)
        with pytest.raises(UserError):
            load_audio(short)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(20):
        audio_length(path), load_audio(path, 16000, 0.1, 0.3)
        with pytest.raises(UserError):
            load_audio(short)
    assert not before or len(list(Path("/proc/self/fd").iterdir())) <= before + 1
