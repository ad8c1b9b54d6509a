"""EmoBox' folders of folds, in the shape of its repository."""

import itertools
import json

import pytest
from support.iemocap_tree import tone

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.metadata import given_dev, read_fold
from s3prl_dd.errors import UserError


def line(dataset, path, emotion, **more):
    return {"key": path, "dataset": dataset, "wav": path, "type": "raw", "sample_rate": 16000, "num_frame": 3200.0,
            "task": "category", "length": 0.2, "emo": emotion, "channel": 1, **more}


def write_lists(folder, dataset, folds):
    """folds: number -> part -> lines."""
    for number, parts in folds.items():
        for part, lines in parts.items():
            path = folder / f"fold_{number}" / f"{dataset}_{part}_fold_{number}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(json.dumps(item) for item in lines))
            path.with_suffix(".json").write_text("{}")  # the repository has each list twice
    return folder


def iemocap(emobox):
    """Three sessions with both speakers of each; fold k tests on session k."""
    lines = {}
    for session in (1, 2, 3):
        for place, (speaker, emotion) in enumerate(itertools.product("FM", ("neu", "hap", "exc", "ang"))):
            name = f"Ses0{session}F_impro01"
            path = f"downloads/iemocap/Session{session}/sentences/wav/{name}/{name}_{speaker}{place:03d}.wav"
            tone(emobox / path, pitch=100 * session + 9 * place)
            lines.setdefault(session, []).append(line("iemocap", path, emotion))
    folds = {number: {"train": [item for other in lines if other != number for item in lines[other]],
                      "test": lines[number]} for number in lines}
    folder = write_lists(emobox / "data/iemocap", "iemocap", folds)
    (folder / "label_map.json").write_text(
        '{"neu": "Neutral", "hap": "Happy", "ang": "Angry", "sad": "Sad", "exc": "Happy"}')
    return folder


def test_each_fold_folder_is_a_fold_and_the_audio_is_found_above(tmp_path):
    folder = iemocap(tmp_path / "EmoBox")
    summary = prepare("emobox", folder, tmp_path / "out")
    assert summary.folds == ("fold1", "fold2", "fold3") and summary.root == str(tmp_path / "EmoBox")
    assert summary.labels == {"neu": 0, "hap": 1, "ang": 2} and summary.name == "iemocap"
    fold = read_fold(tmp_path / "out", "fold2")
    assert fold.test.speakers == ["Ses02F", "Ses02M"]  # the turn's letter, not the dialog's
    assert fold.test.class_counts == [2, 4, 2] and given_dev(tmp_path / "out/Session2") is None
    again = prepare("emobox", tmp_path / "EmoBox", tmp_path / "again")
    assert again == summary
    table = prepare("table", tmp_path / "EmoBox", tmp_path / "table", table=folder)
    assert table.folds == summary.folds and table.utterances == summary.utterances == 24
    for option in ({"folds": 2}, {"columns": "file=wav"}):
        with pytest.raises(UserError, match="iemocap: found EmoBox' folds.*would not be read"):
            prepare("table", tmp_path / "EmoBox", tmp_path / "table", table=folder, **option)


def test_official_dev_lists_are_kept(tmp_path):
    """As MELD's: train, valid and test, and no speaker in the lists."""
    parts = {}
    for number, part in enumerate(("train", "valid", "test")):
        for place, emotion in enumerate(("joy", "neutral")):
            path = f"downloads/meld/{part}/dia{place}_utt0.wav"
            tone(tmp_path / path, pitch=100 + 10 * number + place)
            parts.setdefault(part, []).append(line("meld", path, emotion))
    folder = write_lists(tmp_path / "data/meld", "meld", {1: parts})
    with pytest.raises(UserError, match="line 1: no speaker of downloads/meld.*--speaker REGEX"):
        prepare("emobox", folder, tmp_path / "out")
    summary = prepare("emobox", folder, tmp_path / "out", allow_shared_speakers=True)
    assert summary.shared_speakers and any("whether train and test share some" in text for text in summary.warnings)
    fold = read_fold(tmp_path / "out", "fold1")
    assert [len(part.utterances) for part in (fold.train, fold.dev, fold.test)] == [2, 2, 2]
    assert fold.dev.utterances[0].path == "downloads/meld/valid/dia0_utt0.wav"
    named = prepare("emobox", folder, tmp_path / "out", speaker="meld/([a-z]+)/", emotions="joy=hap,neutral=neu")
    assert named.speakers == 3 and named.labels == {"hap": 0, "neu": 1}


def test_segments_of_emobox(tmp_path):
    """Pavoque's lists have start_time and end_time in one long file."""
    tone(tmp_path / "downloads/pavoque/long.wav", seconds=8)
    parts = {part: [line("pavoque", "downloads/pavoque/long.wav", emotion, start_time=start, end_time=start + 1.5)
                    for emotion, start in (("a", first), ("b", first + 2.0))]
             for part, first in (("train", 0.0), ("test", 4.0))}
    folder = write_lists(tmp_path / "data/pavoque", "pavoque", {1: parts})
    prepare("emobox", folder, tmp_path / "out", allow_shared_speakers=True)
    assert [item.id for item in read_fold(tmp_path / "out", "fold1").test.utterances] == [
        "downloads/pavoque/long.wav#4.0-5.5", "downloads/pavoque/long.wav#6.0-7.5"]


def test_what_is_refused(tmp_path):
    folder = iemocap(tmp_path / "EmoBox")
    (tmp_path / "EmoBox/data/other/fold_1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"lists of 2 corpora \(iemocap, other\). Give one of them"):
        prepare("emobox", tmp_path / "EmoBox", tmp_path / "out")
    with pytest.raises(UserError, match="no folders fold_<k>"):
        prepare("emobox", tmp_path / "EmoBox/downloads", tmp_path / "out")
    (tmp_path / "EmoBox/downloads").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="lies neither there nor in a folder above.*downloads/"):
        prepare("emobox", folder, tmp_path / "out")
    (folder / "fold_1/iemocap_test_fold_1.jsonl").unlink()
    with pytest.raises(UserError, match="fold_1: its splits are train; expected test among them"):
        prepare("emobox", folder, tmp_path / "out")
