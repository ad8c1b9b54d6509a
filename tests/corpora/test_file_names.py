"""RAVDESS, EmoDB and CREMA-D: corpora whose file names say it all."""

import pytest
from support.iemocap_tree import lists, tone

from s3prl_dd.corpora import crema_d, emodb, prepare
from s3prl_dd.corpora import ravdess as ravdess_module
from s3prl_dd.corpora.metadata import read_corpus, read_fold
from s3prl_dd.errors import UserError

FOUR = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def test_ravdess_lists_four_emotions_and_speaker_disjoint_folds(ravdess, tmp_path, capsys):
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    printed = capsys.readouterr().out
    train, test = lists(tmp_path / "out", "fold2")
    assert summary.folds == ("fold1", "fold2") and summary.labels == FOUR
    assert (train.speakers, test.speakers) == (["01", "02"], ["05", "06"])
    assert [(item.path, item.label) for item in test.utterances if item.speaker == "05"] == [
        ("Actor_05/03-01-01-01-01-01-05.wav", "neu"), ("Actor_05/03-01-03-01-01-01-05.wav", "hap"),
        ("Actor_05/03-01-04-01-01-01-05.wav", "sad"), ("Actor_05/03-01-05-01-01-01-05.wav", "ang")]
    assert summary.sample_rates == {"48000": 16} and summary.hours == pytest.approx(16 * 0.2 / 3600)
    assert "calm 4" in printed and "20 of 24 actors" in printed and "16 files" in printed
    assert read_corpus(tmp_path / "out") == summary
    assert read_fold(tmp_path / "out", "fold1").test.speakers == ["01", "02"]


@pytest.mark.parametrize("name, path, text", [
    ("ravdess", "03-01-09-01-01-01-01.wav", "unknown label '09'"),
    ("emodb", "03a01Xa.wav", "unknown label 'X'"),
    ("crema_d", "1001_DFA_JOY_XX.wav", "unknown label 'JOY'"),
])
def test_unknown_label_is_refused(tmp_path, name, path, text):
    tone(tmp_path / "root" / path)
    with pytest.raises(UserError, match=text) as error:
        prepare(name, tmp_path / "root", tmp_path / "out")
    assert path in str(error.value)


def test_emodb_folds_are_pairs_of_a_man_and_a_woman(tmp_path):
    for index, speaker in enumerate(("03", "08", "12", "14", "16")):
        for letter in "NFWTL":
            tone(tmp_path / "root/wav" / f"{speaker}a01{letter}a.wav", pitch=100 + 10 * index + ord(letter) % 7)
    summary = prepare("emodb", tmp_path / "root", tmp_path / "out")
    tested = {fold: lists(tmp_path / "out", fold)[1].speakers for fold in summary.folds}
    assert tested == {"fold1": ["03", "08"], "fold4": ["12", "14"], "fold5": ["16"]}
    assert {item.path[-6]: item.label for item in lists(tmp_path / "out", "fold1")[1].utterances} == {
        "N": "neu", "F": "hap", "W": "ang", "T": "sad"}
    assert any("boredom 5" in note for note in summary.notes)


def test_crema_d_folds_by_every_fifth_id_at_any_depth(tmp_path):
    for speaker in (1001, 1002, 1006):
        for code in ("NEU", "HAP", "ANG", "SAD", "FEA"):
            folder = tmp_path / "root" / f"deep{speaker % 2}" / "er"
            tone(folder / f"{speaker}_DFA_{code}_XX.wav", pitch=speaker + 20 * ord(code[1]) % 90)
    summary = prepare("crema_d", tmp_path / "root", tmp_path / "out")
    assert {fold: lists(tmp_path / "out", fold)[1].speakers for fold in summary.folds} == {
        "fold1": ["1001", "1006"], "fold2": ["1002"]}


def test_a_name_found_twice_is_taken_once(ravdess, tmp_path):
    again = ravdess / "again" / "03-01-01-01-01-01-01.wav"
    tone(again)
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    assert summary.utterances == 16 and any("again/03-01-01" in warning for warning in summary.warnings)


@pytest.mark.parametrize("module, speakers, folds", [
    (ravdess_module, [f"{actor:02d}" for actor in range(1, 25)], 6),
    (emodb, ["03", "08", "09", *(str(speaker) for speaker in range(10, 17))], 5),
    (crema_d, [str(actor) for actor in range(1001, 1092)], 5),
])
def test_folds_of_the_whole_corpus_are_all_there_and_about_equal(module, speakers, folds):
    tested = [module.NAMES.fold_of(speaker) for speaker in speakers]
    sizes = [tested.count(fold) for fold in range(1, folds + 1)]
    assert sum(sizes) == len(speakers) and max(sizes) - min(sizes) <= 1
