"""What all corpora share: finding audio, dealing speakers to folds, words for errors."""

from support.iemocap_tree import tone

from s3prl_dd.corpora.base import EMOTIONS, find_audio, some, spread, tally


def test_labels_are_s3prls_in_s3prls_order():
    assert list(EMOTIONS.items()) == [("neu", 0), ("hap", 1), ("ang", 2), ("sad", 3)]


def test_audio_is_found_at_any_depth_without_hidden_files(tmp_path):
    for name in ("b/2.wav", "a.FLAC", "b/.hidden.wav", "b/c/1.wav"):
        tone(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert find_audio(tmp_path) == ["a.FLAC", "b/2.wav", "b/c/1.wav"]


def test_spread_is_balanced_and_does_not_hang_on_order():
    counts = {"a": 10, "b": 9, "c": 5, "d": 4, "e": 2}
    fold_of = spread(counts, 2)
    sizes = [sum(counts[name] for name in counts if fold_of[name] == fold) for fold in (1, 2)]
    assert sorted(sizes) == [14, 16] and fold_of == spread(dict(reversed(counts.items())), 2)


def test_words():
    assert some(range(12), most=2) == "0, 1 and 10 more" and some([]) == ""
    assert tally({"calm": 4, "sad": 1}) == "calm 4, sad 1"
