"""A run whose corpus has moved, or whose audio is gone."""

import json

import pytest
from support.iemocap_tree import tone
from support.recipe import variant, wanted

from s3prl_dd.cli import report
from s3prl_dd.corpora.inventory import FILE
from s3prl_dd.errors import UserError
from s3prl_dd.recipe import collect, stages
from s3prl_dd.recipe.folder import Run


def table(folder):
    """A CSV of twelve tones by three speakers."""
    lines = ["file,emotion,speaker"]
    for number, speaker in enumerate("abc"):
        for place, emotion in enumerate(("neu", "ang", "sad", "hap")):
            tone(folder / f"{speaker}/{emotion}.wav", pitch=100 + 50 * number + 10 * place)
            lines.append(f"{speaker}/{emotion}.wav,{emotion},{speaker}")
    (folder / "mine.csv").write_text("\n".join(lines))
    return str(folder / "mine.csv")


def prepared(out, **changes):
    run = Run.start(out, wanted(**{"corpus": "table", **changes}))
    stages.prepare(run)
    run.keep()
    return run


@pytest.fixture
def run(tmp_path):
    """A run of a table that is its own root, which has moved since."""
    made = prepared(tmp_path / "run", root=table(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    return made


def test_the_run_goes_on_at_the_new_place_and_keeps_it(run, tmp_path):
    settings = run.settings.changed(root=str(tmp_path / "new/mine.csv"))
    moved = Run.start(run.out, settings)
    assert moved.corpus.root == str(tmp_path / "new") and Run.open(run.out).corpus.root == str(tmp_path / "old")
    moved.keep()
    assert Run.open(run.out).corpus.root == str(tmp_path / "new") and Run.open(run.out).settings == settings
    assert Run.start(run.out, settings).moved_to is None  # it is there already


@pytest.mark.parametrize("root", ["new", "new/mine.csv"])
def test_the_folder_stands_for_the_table_in_it(run, tmp_path, root):
    assert Run.start(run.out, run.settings.changed(root=str(tmp_path / root))).corpus.root == str(tmp_path / "new")


def test_another_corpus_is_refused_and_nothing_changes(run, tmp_path):
    before = {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    (tmp_path / "new/b/sad.wav").write_bytes(b"another")
    told = "new: not the corpus that .*corpus.json describes: b/sad.wav has 7 bytes there"
    with pytest.raises(UserError, match=told):
        Run.start(run.out, run.settings.changed(root=str(tmp_path / "new")))
    with pytest.raises(UserError, match="gone: no such folder"):
        Run.start(run.out, run.settings.changed(root=str(tmp_path / "gone")))
    assert {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()} == before


def test_lists_below_the_folder_that_their_paths_start_from(tmp_path):
    """EmoBox: the root is data/mine, the audio lies above."""
    table(tmp_path / "old/downloads")
    for fold, test in enumerate("abc", 1):
        folder = tmp_path / f"old/data/mine/fold_{fold}"
        folder.mkdir(parents=True)
        for part in ("train", "test"):
            speakers = [speaker for speaker in "abc" if (speaker == test) is (part == "test")]
            rows = [{"wav": f"downloads/{speaker}/{emotion}.wav", "emo": emotion, "speaker": speaker}
                    for speaker in speakers for emotion in ("neu", "ang", "sad", "hap")]
            (folder / f"mine_{part}_fold_{fold}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = prepared(tmp_path / "run", corpus="emobox", root=str(tmp_path / "old/data/mine"))
    assert run.corpus.root == str(tmp_path / "old") and run.corpus.name == "mine"
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Run.start(run.out, run.settings.changed(root=str(tmp_path / "new/data/mine")))
    assert moved.corpus.root == str(tmp_path / "new")


def test_a_run_on_a_base_moves_the_corpus_of_both(run, tmp_path):
    on_it = variant(tmp_path / "variant", run, center=False)
    moved = Run.start(on_it.out, on_it.settings.changed(root=str(tmp_path / "new/mine.csv")))
    moved.keep()
    assert Run.open(run.out).corpus.root == Run.open(on_it.out).corpus.root == str(tmp_path / "new")
    again = Run.start(run.out, Run.defaults(run.out, None, None))  # its own run.json tells the old place
    assert again.moved_to is None and again.corpus.root == str(tmp_path / "new")


def test_sizes_need_no_audio(run, tmp_path):
    paths = ["a/neu.wav", "b/sad.wav"]
    expected = sum((tmp_path / "new" / path).stat().st_size for path in paths)
    assert collect.audio_bytes(run, paths) == expected
    (run.metadata / FILE).unlink()
    with pytest.raises(UserError, match=f"a/neu.wav: no such audio file.*run --out {run.out} --root FOLDER --stage 7"):
        collect.audio_bytes(run, paths)


def test_a_report_of_a_folder_that_may_only_be_read(monkeypatch, tmp_path, capsys):
    from support.recipe import finished_run

    run = finished_run(tmp_path / "run")
    monkeypatch.setattr(stages, "is_writable", lambda folder: folder != run.out)
    monkeypatch.setattr("s3prl_dd.cli.is_writable", lambda folder: folder != run.out)
    report(run)
    assert "all real data" in capsys.readouterr().out and not run.results.exists()
    report(run, tmp_path / "elsewhere")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["results.json", "results.png"]


def test_audio_that_was_changed_in_place_is_told_before_a_stage_hears_it(tmp_path, monkeypatch):
    made = prepared(tmp_path / "run", root=table(tmp_path / "old"))
    file = tmp_path / "old/b/sad.wav"
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"!!")
    monkeypatch.setattr(stages, "train_arms", lambda run, arms: pytest.fail("heard"))
    monkeypatch.setattr(stages, "need", lambda path, stage: path)
    monkeypatch.setattr(stages, "check_trained_on", lambda run: None)
    for stage in (stages.real, stages.extract, stages.train):
        with pytest.raises(UserError, match="b/sad.wav: it has another content since .*another --out"):
            stage(made)
