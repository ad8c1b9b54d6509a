"""Ready-made corpora, each on a small tree with the traps of the real one."""

import itertools
import json

import pytest
from support.iemocap_tree import lists, tone, written

from s3prl_dd.corpora import prepare
from s3prl_dd.corpora.metadata import read_fold
from s3prl_dd.errors import UserError

FOUR = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
PITCH = itertools.count(100)


def tones(root, *paths, **options):
    for path in paths:
        tone(root / path, pitch=next(PITCH), **options)
    return root


def speakers_of(out, summary):
    return {fold: lists(out, fold)[1].speakers for fold in summary.folds}


# CREMA-D


def crema_d(root, actors=(1001, 1002), folder="AudioWAV", ending="wav"):
    return tones(root, *(f"{folder}/{actor}_DFA_{code}_XX.{ending}"
                         for actor in actors for code in ("NEU", "HAP", "ANG", "SAD", "FEA")))


def test_crema_d_lossless_files_are_taken(tmp_path):
    root = crema_d(crema_d(tmp_path / "CREMA-D"), folder="AudioMP3", ending="mp3")
    summary = prepare("crema_d", root, tmp_path / "out")
    assert {item.path[:9] for part in lists(tmp_path / "out", "fold1") for item in part.utterances} == {"AudioWAV/"}
    assert not summary.warnings and any("8 copies in other formats left out" in note for note in summary.notes)


@pytest.mark.parametrize("folder, ending, taken", [("AudioMP3", "mp3", "AudioWAV"), ("AudioWAV", "wav", "AudioMP3")])
def test_crema_d_readable_files_are_taken(tmp_path, folder, ending, taken):
    root = crema_d(crema_d(tmp_path / "CREMA-D"), folder="AudioMP3", ending="mp3")
    for path in (root / folder).iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    assert prepare("crema_d", root, tmp_path / "out").utterances == 8
    assert {item.path[:8] for part in lists(tmp_path / "out", "fold1") for item in part.utterances} == {taken}


def test_a_pointer_is_called_a_pointer(tmp_path):
    root = crema_d(tmp_path / "CREMA-D")
    for path in root.rglob("*.wav"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    with pytest.raises(UserError, match="none of 8 files can be used.*a Git LFS pointer.*`git lfs pull`"):
        prepare("crema_d", root, tmp_path / "out")


def test_crema_ds_empty_file_is_left_out(tmp_path):
    root = crema_d(tmp_path / "CREMA-D", actors=(1075, 1076, 1077, 1078, 1079))
    tones(root, "AudioWAV/1076_MTI_SAD_XX.wav", seconds=0.0)
    summary = prepare("crema_d", root, tmp_path / "out")
    assert summary.utterances == 20 and "AudioWAV/1076_MTI_SAD_XX.wav" in summary.excluded


def test_endings_of_any_case_are_read(tmp_path):
    for actor, ending in ((1001, "Wav"), (1002, "wAV")):
        root = tones(tmp_path / "root", *(f"{actor}_DFA_{code}_XX.{ending}" for code in ("NEU", "HAP", "ANG", "SAD")))
    assert prepare("crema_d", root, tmp_path / "out").utterances == 8


# TESS, SAVEE, nEMO, ESD


def test_tess_mixed_case_and_a_speaker_without_a_letter(tmp_path):
    root = tmp_path / "TESS"
    tones(root, "OAF_neutral/OA_bite_neutral.wav", "OAF_neutral/OAF_back_neutral.wav", "OAF_happy/OAF_back_happy.wav",
          "OAF_angry/OAF_back_angry.wav", "OAF_Sad/OAF_back_sad.wav", "OAF_Fear/OAF_back_fear.wav",
          "OAF_Pleasant_surprise/OAF_back_ps.wav", "YAF_neutral/YAF_back_neutral.wav", "YAF_happy/YAF_back_happy.wav",
          "YAF_angry/YAF_back_Angry.wav", "YAF_sad/YAF_back_sad.wav", "YAF_pleasant_surprised/YAF_back_ps.wav")
    for path in list(root.rglob("*.wav")):  # the popular archive holds everything twice
        again = root / "TESS Toronto emotional speech set data" / path.relative_to(root)
        again.parent.mkdir(parents=True, exist_ok=True)
        written(again, path.read_bytes())
    summary = prepare("tess", root, tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary) == {"fold1": ["OAF"], "fold2": ["YAF"]}
    assert lists(tmp_path / "out", "fold1")[1].class_counts == [2, 1, 1, 1] and summary.labels == FOUR
    assert "other emotions left out: fear 2, pleasant surprise 4" in summary.notes
    assert any("9 left out, the same name was found before" in text for text in summary.warnings)


@pytest.mark.parametrize("separator", ["/", "_"])
def test_savee_numbers_are_the_same_for_each_man(tmp_path, separator):
    names = itertools.product(("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su"))
    root = tones(tmp_path / "root", *(f"AudioData/{speaker}{separator}{code}01.wav" for speaker, code in names))
    summary = prepare("savee", root, tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary) == {
        "fold1": ["DC"], "fold2": ["JE"], "fold3": ["JK"], "fold4": ["KL"]}
    assert lists(tmp_path / "out", "fold1")[1].class_counts == [1, 1, 1, 1]
    assert "other emotions left out: disgust 4, fear 4, surprise 4" in summary.notes


def nemo(root, speakers):
    return tones(root, *(f"samples/{speaker}_{emotion}_{sentence}.wav" for speaker in speakers for sentence in (1, 10)
                         for emotion in ("anger", "happiness", "neutral", "sadness", "fear", "surprise")))


def test_nemo_folds_are_three_actors_each(tmp_path):
    root = nemo(tmp_path / "nEMO", ("EB0", "KS0", "IC0", "WR0"))
    summary = prepare("nemo", root, tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary) == {"fold1": ["EB0", "KS0"], "fold2": ["IC0"], "fold3": ["WR0"]}
    assert summary.labels == FOUR and "other emotions left out: fear 8, surprise 8" in summary.notes


def test_nemo_csv_says_the_folds(tmp_path):
    root = nemo(tmp_path / "nEMO", ("EB0", "KS0", "IC0"))
    table = root / "nemo.csv"
    table.write_text("file,emotion,speaker,fold\nx,ang,EB0,2\nx,ang,KS0,1\nx,ang,IC0,2\n")
    summary = prepare("nemo", root, tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary) == {"fold1": ["KS0"], "fold2": ["EB0", "IC0"]}
    table.write_text("file,emotion,speaker,fold\nx,ang,EB0,2\nx,ang,EB0,1\n")
    with pytest.raises(UserError, match="nemo.csv: line 3: fold '1' of speaker EB0; expected one number"):
        prepare("nemo", root, tmp_path / "out")
    table.write_text("file,emotion,speaker,fold\nx,ang,EB0,2\n")
    with pytest.raises(UserError, match="no fold of the speakers IC0, KS0"):
        prepare("nemo", root, tmp_path / "out")


def esd(root, speakers, between=""):
    return tones(root, *(f"{speaker}/{emotion}/{between}{speaker}_{number:06d}.wav" for speaker in speakers
                         for emotion, number in (("Neutral", 1), ("Angry", 351), ("Happy", 701), ("Sad", 1051),
                                                 ("Surprise", 1401))))


@pytest.mark.parametrize("between", ["", "train/"])
def test_esd_text_lists_have_mixed_encodings(tmp_path, between):
    root = esd(tmp_path / "ESD", ("0001", "0002", "0006", "0011"), between)
    mandarin = "0001_000001\t打远一看\t中立\n0001_000351\t打远一看\t生气\n0001_000701\t打远一看\t伤心\n"
    (root / "0001/0001.txt").write_bytes(mandarin.encode("gb18030"))
    (root / "0002/0002.txt").write_bytes("0002_000001\t打远一看\t中立\n".encode("utf-16"))
    (root / "0006/0006.txt").write_bytes("0006_000001\t打远一看\t中立\n".encode("utf-8-sig"))
    (root / "0011/0011.txt").write_bytes("0011_000351 He\x92s caf\xe9\xff here. Angry\n".encode("latin-1"))
    summary = prepare("esd", root, tmp_path / "out")
    assert speakers_of(tmp_path / "out", summary) == {"fold1": ["0001", "0006", "0011"], "fold2": ["0002"]}
    assert summary.labels == FOUR and "other emotions left out: surprise 4" in summary.notes
    assert [text for text in summary.warnings if "text list" in text] == [
        "1 files lie in the folder of another emotion than their text list says, the folder counts: "
        f"0001/Happy/{between}0001_000701.wav"]


# MSP-Podcast, MELD


def msp_podcast(root, lines):
    """lines: (podcast, emotion, speaker, split)."""
    text = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    for place, (podcast, emotion, speaker, split) in enumerate(lines):
        name = f"MSP-PODCAST_{podcast:04d}_{place:04d}.wav"
        tones(root, f"Audios/{name}")
        text += f"{name},{emotion},4.0,4.0,4.0,{speaker},Female,{split}\n"
    (root / "Labels").mkdir(exist_ok=True)
    (root / "Labels/labels_consensus.csv").write_text(text)
    return root


def msp_lines(**others):
    """Podcast 1 is for training, 2 for development, 3 for tests. others: split -> speakers, over those here."""
    speakers = {"Train": ("1", "Unknown"), "Development": ("2",), "Test1": ("3",), "Test2": ("1",),
                "Test3": ("Unknown",), **others}
    podcasts = {"Train": 1, "Development": 2}
    return [(podcasts.get(split, 3), emotion, speaker, split)
            for split, names in speakers.items() for speaker in names for emotion in "NHASX"]


def test_msp_podcast_has_its_own_splits_and_letters(tmp_path):
    root = msp_podcast(tmp_path / "MSP", msp_lines())
    summary = prepare("msp_podcast", root, tmp_path / "out")
    fold = read_fold(tmp_path / "out", "fold1")
    assert summary.folds == ("fold1",) and summary.labels == FOUR and summary.utterances == 16
    assert fold.train.speakers == ["1", "unknown of MSP-PODCAST_0001"]
    assert (fold.dev.speakers, fold.test.speakers) == (["2"], ["3"])
    assert "other emotions left out: X 4" in summary.notes and "not used: Test2 5, Test3 5" in summary.notes


def test_msp_podcast_of_one_podcast_in_two_splits_shares_unknown_speakers(tmp_path):
    lines = [(1, *rest) for _, *rest in msp_lines(Test1=("Unknown",))]
    with pytest.raises(UserError, match="more than one of fold1's.*unknown of MSP-PODCAST_0001"):
        prepare("msp_podcast", msp_podcast(tmp_path / "MSP", lines), tmp_path / "out")


def test_msp_podcast_with_more_classes(tmp_path):
    root = msp_podcast(tmp_path / "MSP", msp_lines())
    summary = prepare("msp_podcast", root, tmp_path / "out", emotions="N=neu,X=none,H=,A=,S=")
    assert summary.labels == {"neu": 0, "none": 1}


def meld(root, long=0.2):
    """Three lists whose dialogues have the same numbers, as in the release."""
    places = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for part, folder in places.items():
        text = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
        for number, emotion in enumerate(("neutral", "joy", "anger", "sadness", "surprise", "disgust", "fear")):
            tones(root, f"{folder}/dia0_utt{number}.wav", seconds=long if (part, number) == ("test", 1) else 0.2)
            speaker = "Ross" if part == "dev" else "Joey"
            text += (f'{number},"Oh, it\x92s you",{speaker},{emotion},x,0,{number},8,21,'
                     f'"00:16:16,059","00:16:21,731"\n')
        (root / f"{part}_sent_emo.csv").write_bytes(text.encode("latin-1" if part == "test" else "utf-8"))
    return root


def test_meld_keeps_its_parts_apart(tmp_path):
    root = meld(tmp_path / "MELD")
    tones(root, "output_repeated_splits_test/final_videos_testdia0_utt0.wav", "elsewhere/dia0_utt0.wav")
    with pytest.raises(UserError, match="1 speakers are in more than one of fold1's.*: Joey"):
        prepare("meld", root, tmp_path / "out")
    summary = prepare("meld", root, tmp_path / "out", allow_shared_speakers=True)
    fold = read_fold(tmp_path / "out", "fold1")
    assert summary.labels == FOUR and summary.utterances == 12
    assert [part.utterances[0].path for part in (fold.train, fold.dev, fold.test)] == [
        "train_splits/dia0_utt0.wav", "dev_splits_complete/dia0_utt0.wav", "output_repeated_splits_test/dia0_utt0.wav"]
    assert not any(item.is_segment for item in fold.test.utterances)  # its StartTime is of the episode
    assert "other emotions left out: surprise 3, disgust 3, fear 3" in summary.notes


def test_melds_lines_need_a_speaker(tmp_path):
    meld(tmp_path / "root")
    path = tmp_path / "root/test_sent_emo.csv"
    path.write_bytes(path.read_bytes().replace(b",Joey,neutral,", b",NaN,neutral,"))
    with pytest.raises(UserError, match="line 2: output_repeated.* has no speaker. Fill it in"):
        prepare("meld", tmp_path / "root", tmp_path / "out", allow_shared_speakers=True)


def test_melds_four_minute_clips(tmp_path):
    root = meld(tmp_path / "MELD", long=240.0)
    summary = prepare("meld", root, tmp_path / "out", allow_shared_speakers=True)
    assert any("the longest 240.0 s" in text for text in summary.warnings)
    with pytest.raises(UserError, match="class 'hap' has no example in the test part"):
        prepare("meld", root, tmp_path / "out", allow_shared_speakers=True, max_seconds=30)
    cut = prepare("meld", root, tmp_path / "out", allow_shared_speakers=True, max_seconds=30, long="cut")
    assert cut.longest == 30.0 and json.loads((tmp_path / "out/corpus.json").read_text())["longest"] == 30.0


def test_meld_needs_folders_that_name_the_part(tmp_path):
    root = meld(tmp_path / "MELD")
    for place, folder in enumerate(("train_splits", "dev_splits_complete", "output_repeated_splits_test")):
        (root / folder).rename(root / f"clips{place}")
    with pytest.raises(UserError, match="only clips in folders that name no part"):
        prepare("meld", root, tmp_path / "out")
