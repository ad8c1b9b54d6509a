"""Names and paths with any letters that a file system allows."""

import os

import pytest
from support.iemocap_tree import lists, tone

from s3prl_dd.corpora import prepare
from s3prl_dd.errors import UserError

ODD = ["a=1.wav", "a,,b.wav", "a*?[b].wav", "-rf.wav", "it's \"so\".wav", "two\nlines.wav", "tab\t.wav", "ünï/日本.wav",
       "emoji😀.wav", "#0-1.wav", "%s{x}.wav", " space .wav", "e\u0301.wav", "a;b.wav", "\\back.wav"]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("separator", [",", ";"])
def test_any_name_goes_through_a_table(tmp_path, separator):
    root = tmp_path / "lr=1e-4 r*o,,'x'"
    rows = []
    for place, name in enumerate(ODD[:14]):
        tone(root / name.strip(), pitch=100 + 7 * place)
        fields = (name.strip(), ("neu", "sad")[place % 2], f"s=,{place // 2 % 2}")
        rows.append(separator.join(map(quoted, fields)))
    (root / "t.csv").write_text("\n".join([separator.join(("file", "emotion", "speaker")), *rows]), newline="")
    out = tmp_path / "-o=*ut"
    summary = prepare("table", root / "t.csv", out)
    assert summary.utterances == 14 and not summary.excluded
    paths = {item.path for part in lists(out, "fold1") for item in part.utterances}
    assert paths == {name.strip() for name in ODD[:14]}
    again = prepare("table", root / "t.csv", out)  # the folder is found again
    assert again == summary


def undecodable(folder, name):
    """A file whose name is no UTF-8; skips where the file system refuses it."""
    path = os.path.join(os.fsencode(folder), name)
    try:
        os.rename(tone(folder / "new.wav", pitch=90), path)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    return path


def test_undecodable_names_of_other_files_are_told(ravdess, tmp_path, capsys):
    undecodable(ravdess, b"b\xffad.wav")
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    assert any("b\\udcffad.wav" in note for note in summary.notes) and "b\\udcffad.wav" in capsys.readouterr().out


def test_undecodable_folders_of_the_corpus_are_left_out_and_named(ravdess, tmp_path):
    (ravdess / "new").mkdir()
    undecodable(ravdess / "new", b"03-01-05-01-01-01-01.wav")
    os.rename(os.fsencode(ravdess / "new"), os.fsencode(ravdess) + b"/\xe9")
    summary = prepare("ravdess", ravdess, tmp_path / "out")
    assert summary.utterances == 16  # the other copy of that name comes first
    for path in ravdess.glob("Actor_01/03-01-05*"):
        path.unlink()
    with pytest.raises(UserError, match="1 of 16 files.*udce9/03-01-05-01-01-01-01.wav is not UTF-8"):
        prepare("ravdess", ravdess, tmp_path / "out")
    summary = prepare("ravdess", ravdess, tmp_path / "out", allow_missing=True)
    name = "\\udce9/03-01-05-01-01-01-01.wav"
    assert summary.excluded == {name: f"{name} is not UTF-8; neither JSON nor S3PRL can carry the name"}


def test_an_undecodable_root_is_one_clear_line(ravdess, tmp_path):
    bad = os.fsencode(tmp_path) + b"/\xff"
    try:
        os.rename(ravdess, bad)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    with pytest.raises(UserError, match="a name that is not UTF-8") as caught:
        prepare("ravdess", os.fsdecode(bad), tmp_path / "out")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    out = os.fsdecode(os.fsencode(tmp_path) + b"/o\xffut")
    os.rename(bad, ravdess)
    assert prepare("ravdess", ravdess, out).utterances == 16
