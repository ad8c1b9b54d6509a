"""Speaker identification: any corpus in VoxCeleb1's shape, and the check of such trees."""

import os
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest
import soundfile
from support.iemocap_tree import tone

from s3prl_dd.corpora.sid import prepare_sid
from s3prl_dd.corpora.sid_check import check_voxceleb1
from s3prl_dd.errors import UserError
from s3prl_dd.files import read_json


@pytest.fixture
def speakers(tmp_path):
    """Three speakers, ten files each: s0 16 kHz WAV, s1 48 kHz stereo, s2 16 kHz FLAC; sentences 1 and 2 in turn."""
    root = tmp_path / "speakers"
    for who, options in enumerate(({}, {"rate": 48000, "channels": 2}, {})):
        for number in range(10):
            name = f"{number:02d}-{number % 2 + 1}.{'flac' if who == 2 else 'wav'}"
            tone(root / f"s{who}" / name, pitch=100 + 50 * who + number, **options)
    return root


def read_list(out):
    return [(int(line.split()[0]), line.split()[1]) for line in (out / "list.txt").read_text().splitlines()]


def test_tree_is_what_s3prls_voxceleb1_reads(speakers, tmp_path):
    out = tmp_path / "sid"
    summary = prepare_sid(speakers, out)
    lines = read_list(out)
    assert Counter(part for part, _ in lines) == {1: 18, 2: 6, 3: 6}
    assert len({path for _, path in lines}) == 30
    for _, path in lines:
        found = list(out.glob("*/wav/" + path))  # S3PRL's own look-up
        assert len(found) == 1
        info = soundfile.info(str(found[0]))
        assert (info.samplerate, info.channels, info.format) == (16000, 1, "WAV")
        assert 0 <= int(str(found[0]).split(os.sep)[-3][2:]) - 10001 < 3  # S3PRL's label
    assert summary.speakers == {"id10001": "s0", "id10002": "s1", "id10003": "s2"}
    assert summary.chance == pytest.approx(1 / 3) and summary.utterances == {"train": 18, "dev": 6, "test": 6}
    assert read_json(out / "sid.json") == asdict(summary)
    assert check_voxceleb1(out, out / "list.txt") == {"speakers": 3, "train": 18, "dev": 6, "test": 6}


def test_fitting_wavs_are_linked_or_copied(speakers, tmp_path):
    prepare_sid(speakers, tmp_path / "a")
    prepare_sid(speakers, tmp_path / "b", copy=True)
    linked, copied = (tmp_path / name / "data/wav/id10001/0/00001.wav" for name in "ab")
    assert linked.is_symlink() and not copied.is_symlink() and linked.read_bytes() == copied.read_bytes()
    assert not (tmp_path / "a/data/wav/id10003/0/00001.wav").is_symlink()


def test_draw_is_the_same_again_and_another_with_another_seed(speakers, tmp_path):
    first, again, other = (prepare_sid(speakers, tmp_path / str(run), seed=seed) for run, seed in enumerate((0, 0, 1)))
    assert read_list(tmp_path / "0") == read_list(tmp_path / "1") != read_list(tmp_path / "2")
    assert first == again and first != other


def test_split_by_keeps_sentences_apart(speakers, tmp_path):
    summary = prepare_sid(speakers, tmp_path / "sid", split_by=r"-(\d)\.")
    sentences = defaultdict(set)
    for part, path in read_list(tmp_path / "sid"):
        sentences[part].add(Path(summary.files[path]).stem[-1])
    assert dict(sentences) == {1: {"1"}, 2: {"1"}, 3: {"2"}}
    with pytest.raises(UserError, match="does not match this path"):
        prepare_sid(speakers, tmp_path / "sid", split_by=r"sentence(\d)")
    with pytest.raises(UserError, match="finds only 's0'"):
        prepare_sid(speakers, tmp_path / "sid", split_by=r"(s\d)")


def test_speaker_option_reads_it_from_the_path(speakers, tmp_path):
    summary = prepare_sid(speakers.parent, tmp_path / "sid", speaker=r"/(s\d)/")
    assert list(summary.speakers.values()) == ["s0", "s1", "s2"]
    with pytest.raises(UserError, match=r"found 1 speakers \(speakers\)"):
        prepare_sid(speakers.parent, tmp_path / "sid")


def test_the_same_audio_is_never_in_two_parts(speakers, tmp_path):
    samples, rate = soundfile.read(speakers / "s0/00-1.wav", dtype="int16")
    soundfile.write(speakers / "s0/99-1.flac", samples, rate)
    (speakers / "s1/broken.wav").write_bytes(b"")
    summary = prepare_sid(speakers, tmp_path / "sid")
    said = "\n".join(summary.warnings)
    assert sum(summary.utterances.values()) == 30
    assert "s0/99-1.flac = s0/00-1.wav" in said and "s1/broken.wav" in said


def test_bad_sid_input(speakers, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        prepare_sid(tmp_path / "gone", tmp_path / "sid")
    with pytest.raises(UserError, match="add up to 1"):
        prepare_sid(speakers, tmp_path / "sid", ratios=(0.6, 0.2, 0.3))
    for number in range(2):
        tone(speakers / "few" / f"{number}.wav", pitch=700 + number)
    with pytest.raises(UserError, match="few: 2 usable utterances of this speaker; expected at least 3"):
        prepare_sid(speakers, tmp_path / "sid")
    assert not (tmp_path / "sid").exists()
    (tmp_path / "own/data").mkdir(parents=True)
    with pytest.raises(UserError, match="own/data: is there already and was not made by this command"):
        prepare_sid(speakers, tmp_path / "own")


def test_a_second_run_replaces_the_first(speakers, tmp_path):
    prepare_sid(speakers, tmp_path / "sid")
    for path in (speakers / "s2").iterdir():
        path.unlink()
    assert prepare_sid(speakers, tmp_path / "sid").utterances == {"train": 12, "dev": 4, "test": 4}
    assert not (tmp_path / "sid/data/wav/id10003").exists()
    assert sorted(path.name for path in (tmp_path / "sid").iterdir()) == ["data", "list.txt", "sid.json"]


# real trees

@pytest.fixture
def voxceleb(tmp_path):
    """Two speakers in the original's shape, dev and test; returns (root, lines)."""
    lines = []
    for identity, tree in (("id10001", "dev"), ("id10270", "test")):
        for number in range(1, 4):
            path = f"{identity}/1zcIwhmdeo4/{number:05d}.wav"
            tone(tmp_path / "vox" / tree / "wav" / path, pitch=100 + number)
            lines.append(f"{number} {path}")
    return tmp_path / "vox", lines


def test_original_tree_passes(voxceleb, tmp_path):
    root, lines = voxceleb
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    assert check_voxceleb1(root, tmp_path / "list.txt") == {"speakers": 2, "train": 2, "dev": 2, "test": 2}


def dev_for_train(lines):
    return [line.replace("1 ", "2 ", 1) for line in lines]


def slow(root, lines):
    tone(root / "dev/wav/id10001/1zcIwhmdeo4/00002.wav", rate=8000)
    return lines


def emptied(root, lines):
    (root / "test/wav/id10270/1zcIwhmdeo4/00003.wav").write_bytes(b"")
    return lines


@pytest.mark.parametrize("change, message", [
    (lambda root, lines: lines + ["1 id11252/video/00001.wav"], "line 7: found id11252.*from id10001 to id11251"),
    (lambda root, lines: lines + ["4 id10001/video/00001.wav"], "line 7: expected `1|2|3"),
    (lambda root, lines: lines + [lines[0].replace("1 ", "3 ", 1)], "listed before, in train"),
    (lambda root, lines: lines + ["1 id10001/video/00009.wav"], "00009.wav is in the list, but found in no"),
    (lambda root, lines: lines[:-1], "id10270 has 2 utterances; expected at least 3"),
    (lambda root, lines: lines[:3] + dev_for_train(lines[3:]), "id10270 has no utterance in train"),
    (lambda root, lines: [line.replace("2 ", "1 ", 1) for line in lines], r"no line of part 2 \(dev\)"),
    (lambda root, lines: [], "an empty list"),
    (slow, "00002.wav: 8000 Hz, 1 channel"),
    (emptied, "00003.wav: cannot be read"),
])
def test_flawed_trees_are_named(voxceleb, tmp_path, change, message):
    root, lines = voxceleb
    (tmp_path / "list.txt").write_text("\n".join(change(root, lines)))
    with pytest.raises(UserError, match=message):
        check_voxceleb1(root, tmp_path / "list.txt")


def test_wrong_root_and_missing_list(voxceleb, tmp_path):
    root, lines = voxceleb
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match="found no folder <any>/wav"):
        check_voxceleb1(root / "dev", tmp_path / "list.txt")
    with pytest.raises(UserError, match="gone.txt: no such list"):
        check_voxceleb1(root, tmp_path / "gone.txt")


@pytest.mark.skipif("S3PRL_DD_DATA" not in os.environ, reason="S3PRL_DD_DATA is not set")
def test_real_speakers(tmp_path):
    data = Path(os.environ["S3PRL_DD_DATA"])
    summary = prepare_sid(data / "librispeech10", tmp_path / "a")
    assert len(summary.speakers) == 10 and summary.utterances == {"train": 60, "dev": 20, "test": 20}
    summary = prepare_sid(data / "ravdess", tmp_path / "b", split_by=r"03-01-\d\d-\d\d-(\d\d)")
    assert len(summary.speakers) == 24 and summary.utterances["test"] in (335, 336)
